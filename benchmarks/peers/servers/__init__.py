"""Servers that users would pick instead."""
