"""The device, its number formats and its memory."""
