"""A model measured on text and on tasks, beside the dense model that it was pruned from."""
