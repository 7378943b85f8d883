"""One module for each subcommand: `add` declares it, and what it runs imports what it needs."""
