"""GGUF files, which llama.cpp and all that is built on it serve."""
