"""The table of plans: its rows, and which of them a browser asks for."""
