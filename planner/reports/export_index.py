"""The index of many exports: a table, a picture, and how each is loaded."""

from collections.abc import Iterator
from pathlib import Path

from evaluators.metric import METRICS
from planner.export.cards.manifest import Manifest
from planner.export.front_exports import ExportedPlan, ExportIndex
from planner.reports.plots import draw_front
from planner.reports.tables import aligned
from planner.run import Run
from planner.runs.folder import FRONT_PICTURE, MANIFEST_FILE
from search_spaces.atomic_files import atomic_write_text

INDEX_PAGE = "README.md"
_PAGE = """\
# {model}: {count} plans of one search

![KL against {cost}]({picture})

{table}
{missing}
Each folder has a card of its own, with what was measured of it and where its weights come from.

{loading}
"""


def write_index(run: Run, index: ExportIndex, out: Path) -> None:
    """Write the page of many exports, and its picture, into their folder."""
    draw_front(run, out / FRONT_PICTURE)
    manifests = dict(_manifests(index, out))
    page = _PAGE.format(
        model=Path(run.settings.model).name,
        count=len(manifests),
        cost=run.cost_names[0],
        picture=FRONT_PICTURE,
        table=_markdown(_rows(run, manifests)),
        missing="".join(f"\n- {line}" for line in _missing(index)) + "\n",
        loading=_loading(manifests),
    )
    atomic_write_text(out / INDEX_PAGE, page)


def index_table(run: Run, index: ExportIndex, out: Path) -> str:
    """Return the same as a table for a terminal, and why some plans have no export."""
    table = aligned(_rows(run, dict(_manifests(index, out))))
    return "\n".join([table, *_missing(index)])


def _manifests(index: ExportIndex, out: Path) -> Iterator[tuple[ExportedPlan, Manifest]]:
    for plan in index.plans:
        if plan.state == "exported":
            text = (out / plan.folder / MANIFEST_FILE).read_text(encoding="utf-8")
            yield plan, Manifest.model_validate_json(text)


def _loading(manifests: dict[ExportedPlan, Manifest]) -> str:
    """Return how each is loaded; some of one format may need code that others do not."""
    folders: dict[str, list[str]] = {}
    for plan, manifest in manifests.items():
        folders.setdefault(manifest.loading, []).append(plan.folder)
    if len(folders) == 1:
        return next(iter(folders))
    return "\n".join(
        f"## {', '.join(f'`{name}`' for name in names)}\n\n{loading}"
        for loading, names in folders.items()
    )


def _missing(index: ExportIndex) -> list[str]:
    return [
        f"plan {plan.plan_id} is not exported: {plan.reason}"
        for plan in index.plans
        if plan.state in {"refused", "failed"}
    ]


def _rows(run: Run, manifests: dict[ExportedPlan, Manifest]) -> list[list[str]]:
    """Return a row for each export: what it costs, how good it is, how fast it was measured."""
    costs = run.cost_names
    rows = [["folder", "plan", *costs, "size", "KL held-out", "prefill", "decode", "perplexity"]]
    for plan, manifest in manifests.items():
        latency, perplexity = manifest.service.latency, manifest.service.perplexity
        kl = manifest.holdout.get("kl")
        rows.append(
            [
                plan.folder,
                plan.plan_id,
                *(METRICS[name].amount(manifest.costs[name]) for name in costs),
                METRICS["size"].amount(manifest.service.file_bytes["pruned"]),
                "" if kl is None else f"{kl.value:.3f} ± {kl.standard_error:.3f}",
                f"{latency['pruned'].prefill_ms:.1f} ms" if latency else "",
                f"{latency['pruned'].decode_ms:.1f} ms" if latency else "",
                f"{perplexity['pruned'].value:.2f}" if perplexity else "",
            ]
        )
    return rows


def _markdown(rows: list[list[str]]) -> str:
    header, *lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([header, "|---" * len(rows[0]) + "|", *lines])
