"""The report of a run: one page that opens anywhere, or its front as a picture."""
