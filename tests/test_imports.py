"""What is light to import stays light: names and settings load nothing that takes seconds."""

import subprocess
import sys

import pytest

from tests import ROOT

HEAVY = frozenset(
    {
        "accelerate",
        "datasets",
        "gguf",
        "matplotlib",
        "moocore",
        "optuna",
        "pandas",
        "pymoo",
        "scipy",
        "sklearn",
        "torch",
        "transformers",
    }
)
WITHOUT_NUMPY = (
    "import planner",
    "import planner.cli.main",
    "import planner.recipes.recipe",
    "import planner.searchers",
    "import planner.settings.budget, planner.settings.search",
    "import evaluators, evaluators.metric",
    "import search_spaces, search_spaces.errors, search_spaces.progress",
    "import search_spaces.importance",
    "import search_spaces.pruned_weights.compensation",
    "import search_spaces.pruned_weights.refinements",
    "import search_spaces.pruned_weights.sparsifiers",
    "import search_spaces.space.choices",
)
HELP = "from planner.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass"
WITH_NUMPY = ("from planner import Plan", "import planner.searchers.protocol")
READING_A_RUN = HEAVY - {"moocore", "scipy"}
LIGHT = [
    ("import planner.run, planner.reports.sentences, planner.reports.tables", READING_A_RUN),
    ("import planner.browse.app, planner.export.cards.manifest", READING_A_RUN - {"gguf"}),
    *((statement, HEAVY | {"numpy"}) for statement in WITHOUT_NUMPY),
    (HELP, HEAVY | {"numpy"}),
    *((statement, HEAVY) for statement in WITH_NUMPY),
]


@pytest.mark.parametrize(
    ("statement", "heavy"), LIGHT, ids=[" ".join(statement.split()) for statement, _ in LIGHT]
)
def test_it_loads_nothing_heavy(statement: str, heavy: frozenset[str]) -> None:
    code = f"import sys\n{statement}\nprint(*{set(heavy)} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
