"""Healing what a user names, a run or an export, and writing it."""
