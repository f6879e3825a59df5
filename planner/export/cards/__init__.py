"""What is told of an export: its card, its manifest, and where its model comes from."""
