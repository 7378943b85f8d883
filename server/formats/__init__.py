"""What was said in a clip -> the forms in which it is read."""
