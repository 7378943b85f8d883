"""How time and memory grow: with the length of a clip, the batch, the models that are loaded, and the clients."""
