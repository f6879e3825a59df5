"""Inputs that nobody should have written, and processes that run the planner on them."""
