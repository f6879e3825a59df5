"""Tiny random models, and what is known of them by another road than the planner's.

`factory` makes them all. `families` and `moe_families` are the tables of what can be made, with
what is known of each by hand; `tiny` has a few of little depth; `streamed` writes them to disk.
The other modules hold candidates of them, references for what is done to them, and experts that
belong to no model.
"""
