"""Paths as users write them."""

import os
from pathlib import Path


def existing_path(name: str) -> Path:
    """Return a name as a path: as it stands if that exists, else with its ``~`` written out.

    A name whose ``~`` stands for no home stays as it is.
    """
    return Path(name if os.path.lexists(name) else os.path.expanduser(name))  # noqa: PTH111  (raises)
