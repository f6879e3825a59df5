"""Processes that score: each holds the model and nothing else, and the search holds the rest."""
