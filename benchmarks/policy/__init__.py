"""How the scheduler forms batches, in a simulated time."""
