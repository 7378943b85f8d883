"""From the start of the process until it answers, and what it takes meanwhile."""
