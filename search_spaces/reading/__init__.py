"""From a module graph to a structure, by shapes, gradients and trying."""
