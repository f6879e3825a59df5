"""From settings to a model that is read, calibrated, ranked by importance and sorted."""
