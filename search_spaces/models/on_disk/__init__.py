"""The files of a model: finding, reading and checking them before anything is loaded."""
