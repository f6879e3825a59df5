"""One file for each way to make up for units that go."""
