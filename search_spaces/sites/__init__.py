"""One file for each kind of choice: how to find it and which levels it has."""
