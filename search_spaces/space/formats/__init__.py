"""Number formats of a search: those that are offered, and what each component has of them."""
