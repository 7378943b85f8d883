"""Recordings: hours of them, folders of them, and the times of their words."""
