"""One module per checkpoint: its network, how it learns, and what is measured of it."""
