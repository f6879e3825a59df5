"""Published methods and baselines as presets of settings, and comparing them."""
