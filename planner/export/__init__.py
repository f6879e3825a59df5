"""From a plan to a folder that a client loads, proved before it is announced."""
