"""One file for each order in which the experts of a mixture go."""
