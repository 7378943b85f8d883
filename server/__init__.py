"""Engines -> HTTP: fastapi over `engines`; never export, torch or transformers."""
