"""What searchers share: levels and costs, moves, the additive model."""
