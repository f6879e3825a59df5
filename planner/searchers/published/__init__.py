"""Searchers as other papers have them."""
