"""Clips -> batches: what waits, what goes together, what runs."""
