"""One file for each way to make matrices sparse."""
