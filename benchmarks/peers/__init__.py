"""The same work on what users would pick instead."""
