"""A pipeline over depth: each worker holds some of the layers."""
