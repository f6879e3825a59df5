"""Whether two checkouts search alike: fronts of four small searches at a fixed seed, bit for bit.

    python -m benchmarks.same_fronts OTHER_CHECKOUT

searches tiny random models by the code of this checkout and of another – dense and joint, sparse
with compensation, a mixture of experts, dense and streamed from disk – and compares `front.csv`,
every genome that was scored and the plan of every evaluation. Exit status 1 where anything
differs. Options that are spelt otherwise in the other checkout are translated.
"""

import hashlib
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.models.factory import VOCABULARY, write_tokenizer
from tests.models.families import dense
from tests.models.moe_families import saved_mixture

ROOT = Path(__file__).resolve().parents[1]
TEXT = "text.txt"
"""Beside the models: a streamed one does not write its own."""
_COMMON = {
    "seed": "3",
    "tokens": "40000",
    "search_windows": "8",
    "fresh_windows": "4",
    "holdout_windows": "4",
    "calibration_windows": "16",
    "window_tokens": "24",
    "dtype": "float32",
}
SEARCHES = {
    "dense, joint": ("llama", {"budget": "params<=0.7x"}),
    "sparse, compensated": (
        "llama",
        {
            "budget": "nonzero<=0.6x",
            "space": "heads,channels,sparsity,2:4",
            "compensate": "obs,admm",
        },
    ),
    "mixture": (
        "qwen2-moe",
        {"budget": "params<=0.75x", "space": "heads,channels,drops,experts,top_k"},
    ),
    "streamed": (
        "llama",
        {"budget": "params<=0.7x", "offload": "always", "data": TEXT, "tokens": "10000"},
    ),
}
_FORMER = {
    "search_windows": "windows",
    "calibration_windows": "statistics_windows",
    "prior": "guess",
    "importance": "ranking",
    "expert_importance": "expert_ranking",
}
"""Spellings of a checkout of before."""


def main(arguments: list[str]) -> int:
    """Compare with another checkout; gives the exit status."""
    if len(arguments) != 1:
        print(__doc__)
        return 2
    other = Path(arguments[0]).resolve()
    alike = True
    with tempfile.TemporaryDirectory() as scratch:
        models = _models(Path(scratch))
        for name, (model, options) in SEARCHES.items():
            runs = [
                _searched(checkout, models[model], options, Path(scratch) / f"{position}-{name}")
                for position, checkout in enumerate((other, ROOT))
            ]
            before, after = map(_content, runs)
            same = before == after
            alike &= same
            print(f"{name}: {'the same' if same else 'DIFFERENT'}, {_counts(runs[1])}, {after[0]}")
    return 0 if alike else 1


def _models(folder: Path) -> dict[str, Path]:
    """Write the tiny models that are searched."""
    places = {"llama": folder / "llama", "qwen2-moe": folder / "qwen2-moe"}
    dense("llama").backbone.model.save_pretrained(places["llama"])
    write_tokenizer(places["llama"])
    saved_mixture("qwen2-moe", places["qwen2-moe"])
    words = random.Random(0).choices(range(3, VOCABULARY), k=20_000)
    (folder / TEXT).write_text(" ".join(f"w{word}" for word in words), encoding="utf-8")
    return places


def _searched(checkout: Path, model: Path, options: dict[str, str], out: Path) -> Path:
    """Search a model by the code of a checkout, in a process that sees that code alone."""
    settings = next(
        path.read_text(encoding="utf-8")
        for path in map(checkout.joinpath, ("planner/settings/search.py", "planner/settings.py"))
        if path.is_file()
    )
    if "data" in options:
        options = options | {"data": str(model.parent / options["data"])}
    spelt = {
        (name if f"    {name}: " in settings else _FORMER[name]): value
        for name, value in (_COMMON | options).items()
    }
    module = "planner.cli.main" if (checkout / "planner" / "cli").is_dir() else "planner.cli"
    code = (
        f"import sys, torch; sys.path.insert(0, {str(checkout)!r}); torch.set_num_threads(1); "
        f"from {module} import main; sys.exit(main())"
    )
    given = [word for name, value in spelt.items() for word in (f"--{name}", value)]
    command = [sys.executable, "-P", "-c", code, "search", str(model), *given, "--out", str(out)]
    done = subprocess.run(command, check=False, cwd=checkout, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the search of {checkout} failed: {done.stderr[-2000:]}")
    return out


def _content(run: Path) -> tuple[str, str]:
    """Digests of the front and of all that was scored, times left out."""
    plans = "select id, genome, plan_id, round, tokens, failure from evaluations order by id"
    scores = (
        "select evaluation_id, replace(split, 'calibration', 'search') as split, metric, value, "
        "by_window from measurements where split <> 'exact' order by evaluation_id, split, metric"
    )
    with sqlite3.connect(run / "run.sqlite") as database:
        found = [database.execute(query).fetchall() for query in (plans, scores)]
        found.append(_costs(database))
    database.close()
    digests = (hashlib.sha256(b).hexdigest()[:16] for b in (
        (run / "front.csv").read_bytes(), repr(found).encode(),
    ))  # fmt: skip
    front, evaluations = digests
    return f"front {front}, evaluations {evaluations}", evaluations


def _costs(database: sqlite3.Connection) -> list[tuple[object, ...]]:
    """Costs of each plan by name, which were rows of measurements before."""
    columns = {name for _, name, *_ in database.execute("pragma table_info(evaluations)")}
    if "costs" not in columns:
        query = "select evaluation_id, metric, value from measurements where split = 'exact'"
        return sorted(database.execute(query).fetchall())
    rows = database.execute("select id, costs from evaluations").fetchall()
    return sorted(
        (number, name, value) for number, text in rows for name, value in json.loads(text).items()
    )


def _counts(run: Path) -> str:
    with sqlite3.connect(run / "run.sqlite") as database:
        ((plans,),) = database.execute("select count(*) from evaluations").fetchall()
    database.close()
    front = len((run / "front.csv").read_text(encoding="utf-8").splitlines()) - 1
    return f"{plans} plans, {front} on the front"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
