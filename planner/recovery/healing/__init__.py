"""Healing: training small models end to end to predict as the dense one does."""
