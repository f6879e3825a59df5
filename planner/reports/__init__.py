"""Runs as tables, sentences and pictures for people."""
