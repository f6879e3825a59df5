"""The documents: what they name exists, and what exists is named."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from planner.cli.main import COMMANDS, command_parser
from planner.recipes.recipe import RECIPES
from planner.searchers import SearcherName
from planner.settings.evaluate import EvaluateSettings
from planner.settings.heal import HealSettings
from planner.settings.search import PriorName, SearchSettings
from planner.settings.to_moe import ToMoeSettings
from search_spaces.importance import (
    ExpertImportanceName,
    LayerImportanceName,
    UnitImportanceName,
)
from search_spaces.pruned_weights.compensation import CompensationName
from search_spaces.pruned_weights.refinements import RefinementName
from search_spaces.pruned_weights.sparsifiers import SparsifierName
from tests import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
WRITTEN = [document for document in DOCUMENTS if document.name != "options.md"]
"""By hand; the other is generated."""
_ROOTS = ("planner/", "evaluators/", "search_spaces/", "tests/", "benchmarks/", "results/", ".ci/")
_MADE_BY_COMMANDS = ("results/run", "results/all", "results/demo")
_QUOTED = re.compile(r"`([^`\s]+)`")
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_TARGET = re.compile(r"`make ([a-z-]+)`")

_OPTION = re.compile(r"`--([a-z_]+)[^`]*`")
_COMMAND = re.compile(r"^    planner (.*)$|`planner ([a-z-]+ [^`\n]*)`", re.MULTILINE)
_OF_COMMANDS_ALONE = {
    "out", "resume", "config", "recipes", "budgets", "knee", "against", "reference", "stability",
    "plan", "plans", "front", "format", "gguf_type", "json", "csv",
}  # fmt: skip
"""Options that are no settings."""

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
written = pytest.mark.parametrize("document", WRITTEN, ids=lambda path: path.name)


def quoted_paths(text: str) -> Iterator[str]:
    for path in _QUOTED.findall(text):
        if path.startswith(_ROOTS) and not path.startswith(_MADE_BY_COMMANDS):
            yield path


@documents
def test_paths_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert [path for path in quoted_paths(text) if not (ROOT / path).exists()] == []


@documents
def test_links_lead_somewhere(document: Path) -> None:
    links = _LINK.findall(document.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith("http")]
    assert [link for link in local if not (document.parent / link).exists()] == []


@written
def test_targets_of_make_exist(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    benchmarks = re.findall(r"^BENCHMARKS := ((?:.*\\\n)*.*)$", makefile, re.MULTILINE)[0].split()
    targets = {*re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)}
    targets |= {f"bench-{name}" for name in [*benchmarks, ""]}  # the last from `bench-NAME`
    assert set(_TARGET.findall(document.read_text(encoding="utf-8"))) <= targets


@written
def test_commands_can_be_typed(document: Path) -> None:
    for in_block, in_text in _COMMAND.findall(document.read_text(encoding="utf-8")):
        words = shlex.split(in_block or in_text, comments=True)
        if words[0] in COMMANDS and (in_block or "--out" in words):
            command_parser(words[0]).options(words[1:])


@written
def test_options_exist(document: Path) -> None:
    settings = (SearchSettings, ToMoeSettings, EvaluateSettings, HealSettings)
    known = {name for kind in settings for name in kind.model_fields} | _OF_COMMANDS_ALONE
    assert set(_OPTION.findall(document.read_text(encoding="utf-8"))) - known == set()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


def test_the_contributing_guide_names_every_room() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = {
        f"{package}/{folder.parent.name}/"
        for package in ("planner", "evaluators", "search_spaces")
        for folder in (ROOT / package).glob("*/__init__.py")
    }
    assert rooms - set(quoted_paths(text)) == set()


def test_the_page_of_methods_names_every_method() -> None:
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    sections = {}
    for section in text.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        sections[title.partition(" (")[0]] = body
    compensations = {*get_args(CompensationName), *get_args(RefinementName), "none", "merge"}
    names = {
        "Recipes": set(RECIPES),
        "Searchers": set(get_args(SearcherName)),
        "Importance of units": set(get_args(UnitImportanceName)),
        "Importance of layers": set(get_args(LayerImportanceName)),
        "Importance of experts": set(get_args(ExpertImportanceName)),
        "Sparsifiers": {*get_args(SparsifierName), *get_args(RefinementName)},
        "Compensation": compensations - set(get_args(RefinementName)),
        "Priors": set(get_args(PriorName)),
    }
    for title, expected in names.items():
        assert expected - set(_QUOTED.findall(sections[title])) == set(), title


def test_the_page_of_methods_repeats_the_recipes() -> None:
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    for name, recipe in RECIPES.items():
        (row,) = re.findall(rf"^\| `{name}` \| (.*) \|$", text.split("## Searchers")[0], re.M)
        described, _, reference, differs = row.split(" | ")
        assert (described, reference) == (recipe.description, recipe.reference)
        assert differs == (recipe.differs or "–")
