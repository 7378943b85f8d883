"""What is copied into the images."""
