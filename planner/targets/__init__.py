"""Where exports go: for each target what it holds, how it is written, and how it runs there."""
