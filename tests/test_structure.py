"""Rooms stay small, and a module's name says which one it is."""

import ast
from collections import defaultdict

from tests import ROOT

MOST_FILES = 15
PACKAGES = ("planner", "evaluators", "search_spaces")
PRODUCT = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
EVERYWHERE = {"__init__", "protocol"}
"""Names that a role's folder may have, too, where another has them."""
TEST_FILES = sorted((ROOT / "tests").rglob("*.py"))


def test_no_folder_has_more_files_than_one_can_look_through() -> None:
    counts: dict[str, int] = defaultdict(int)
    for file in PRODUCT:
        counts[str(file.parent.relative_to(ROOT))] += file.stem != "__init__"
    assert len(counts) > 20
    assert {folder: count for folder, count in counts.items() if count > MOST_FILES} == {}


def test_no_two_modules_share_a_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for file in PRODUCT:
        if file.stem not in EVERYWHERE:
            places[file.stem].append(str(file.relative_to(ROOT)))
    assert len(places) > 100
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_no_test_file_is_imported_from() -> None:
    """What tests share lies in modules that are no tests, nor pytest's own `conftest`."""
    imported = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in TEST_FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        for name in _imported_modules(node)
        if name.rpartition(".")[2].startswith(("test_", "conftest"))
    }
    assert imported == set()


def _imported_modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        # a module, or a name that may be one
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []
