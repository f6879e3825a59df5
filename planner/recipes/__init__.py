"""Published methods and baselines as presets of settings, and their comparison."""
