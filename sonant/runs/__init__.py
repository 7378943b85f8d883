"""A task over many files, in this process or by a server: `sonant transcribe`, `encode` and `classify`."""
