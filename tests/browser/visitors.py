"""What visitors of the page come with, and how tests send them."""

from collections.abc import Callable
from typing import Literal

from tests.browser.front_page import FrontPage
from tests.browser.server import Server

WIDTH, HEIGHT = 1280, 900
MOST_MILLISECONDS = 30_000
"""For any one thing that a test waits for: a busy machine is no failure."""
Serve = Callable[..., Server]
"""Serves the page over a folder, with variables of the server's environment."""
Visit = Callable[..., FrontPage]
"""Opens a server's page as a new visitor: ``scheme``, and what `FrontPage.open` takes."""
ColorScheme = Literal["light", "dark"]
