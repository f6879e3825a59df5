"""What may be cut of a model, and cutting it."""
