"""Measurements of Sonant against what a user would run instead; from a checkout, with the `dev` extra."""
