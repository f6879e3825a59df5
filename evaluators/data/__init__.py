"""Text: what models are calibrated, compared and judged on."""
