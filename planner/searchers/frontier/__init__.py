"""The default searcher: one joint search that learns from every evaluation."""
