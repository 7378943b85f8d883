"""The servers: each runs in an environment of its own, and imports what is installed there and `encoder` beside it."""
