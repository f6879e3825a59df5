"""What the product imports is declared, so that a wheel brings all that it needs."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from typing import Any

from tests import ROOT

PACKAGES = ("planner", "evaluators", "search_spaces")


def imported() -> dict[str, str]:
    """Top-level modules of others that the product imports, each with one file that does."""
    found: dict[str, str] = {}
    for file in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            found |= {name.partition(".")[0]: str(file.relative_to(ROOT)) for name in names}
    ours = {*PACKAGES, *sys.stdlib_module_names}
    return {name: file for name, file in found.items() if name not in ours}


def project() -> dict[str, Any]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table: dict[str, Any] = tomllib.loads(text)["project"]
    return table


def name_of(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")


def test_every_import_of_the_product_is_declared() -> None:
    """By the product itself, or by an extra for what only some users need."""
    declared = {name_of(line) for line in project()["dependencies"]}
    for lines in project()["optional-dependencies"].values():
        declared |= set(map(name_of, lines))
    homes = packages_distributions()
    missing = {
        name: file
        for name, file in imported().items()
        if not set(map(name_of, homes.get(name, [name]))) & declared
    }
    assert len(declared) > 15
    assert missing == {}
