"""From a dense model to a mixture of experts on disk."""
