"""What wraps every request, from its connection to its key."""
