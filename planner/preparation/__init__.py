"""From settings to a model that is read, calibrated, ordered by importance and sorted."""
