"""Logits -> text, in numpy."""
