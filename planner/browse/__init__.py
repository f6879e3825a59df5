"""A page over the runs in a folder, in the browser; it needs the extra ``browse``."""
