"""The demonstration: small models that really work, and how they were made."""
