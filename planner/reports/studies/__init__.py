"""Runs as studies of Optuna, for its plots and for optuna-dashboard."""
