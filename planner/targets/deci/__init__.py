"""Exports as the DeciLM family, which vLLM runs itself."""
