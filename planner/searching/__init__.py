"""One search from start to end: the loop, its races, limits, and what is scored afterwards."""
