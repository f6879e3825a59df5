"""What the server is asked: by whom, and whether it is what the page asks for."""
