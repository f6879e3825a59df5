"""What may be chosen: sites and levels, genomes, configurations, plans."""
