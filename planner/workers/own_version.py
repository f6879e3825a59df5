"""Which planner this is, told apart by its code."""

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

_PACKAGES = ("evaluators", "planner", "search_spaces")


@cache
def own_version() -> str:
    """Return the version of the planner and a digest of its code, as ``0.1.0 (3f2a91c0)``."""
    digest, root = hashlib.sha256(), Path(__file__).resolve().parents[2]
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode())
            digest.update(path.read_bytes())
    try:
        version = metadata.version("compression-planner")
    except metadata.PackageNotFoundError:  # a checkout on the path
        version = "not installed"
    return f"{version} ({digest.hexdigest()[:8]})"
