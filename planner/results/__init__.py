"""What a run comes to: its front, indicators, significance."""
