"""What runs Sonant in containers, and what proves that it does."""
