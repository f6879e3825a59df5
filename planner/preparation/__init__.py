"""From settings to a model that is read, calibrated, ordered and sorted."""
