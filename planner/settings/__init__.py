"""What users ask for: settings and budgets, checked."""
