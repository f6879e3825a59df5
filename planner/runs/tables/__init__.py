"""What the tables of a run's database are made of: their connections, and single values."""
