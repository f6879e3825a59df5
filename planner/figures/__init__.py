"""Plotly figures of runs, for pages, reports and notebooks; they need the extra ``browse``."""
