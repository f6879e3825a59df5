"""What small steps from a candidate change, by gradients."""
