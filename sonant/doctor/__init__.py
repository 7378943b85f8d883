"""What `sonant doctor` looks at: a module for each subject, whose checks run in processes of their own.

A module has two functions. `jobs(request)` says which checks there are, and imports no runtime; `check(...)` makes one
of them, in a process of its own, with the arguments that its job names.
"""
