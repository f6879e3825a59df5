"""A stream that says it is a terminal."""

import io


class Screen(io.StringIO):
    """Remembers what was written to it."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True
