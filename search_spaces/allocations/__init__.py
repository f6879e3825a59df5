"""One file for each published rule that tells sub-blocks how much of their weights stays."""
