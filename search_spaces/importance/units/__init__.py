"""Importance of key-value groups and MLP channels: one file a criterion."""
