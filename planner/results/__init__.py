"""The results of a run: its front, indicators, significance."""
