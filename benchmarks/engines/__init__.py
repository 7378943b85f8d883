"""An engine by itself: how long it takes in each of its forms, beside transformers and beside the machine's limit."""
