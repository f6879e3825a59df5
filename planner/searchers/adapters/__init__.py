"""Searchers of pymoo and optuna, each library behind one file."""
