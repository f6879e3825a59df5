"""Where candidates are scored."""
