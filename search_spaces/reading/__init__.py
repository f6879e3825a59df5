"""Reading a model's structure from its module graph, by shapes, gradients and trials."""
