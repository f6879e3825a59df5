"""What the product imports is declared, so that a wheel brings all that it needs."""

import ast
import re
import sys
from importlib.metadata import packages_distributions, requires

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


def test_every_import_of_the_product_is_declared() -> None:
    lines = [line for line in requires("compression-planner") or [] if "extra ==" not in line]
    declared = {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in lines}
    homes = packages_distributions()
    missing = {
        name: file
        for name, file in imported().items()
        if not {home.lower().replace("_", "-") for home in homes[name]} & declared
    }
    assert len(declared) > 15
    assert missing == {}
