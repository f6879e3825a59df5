"""The runs in a folder as text for a terminal, and as a table of data."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from planner.reports.tables import aligned_lines, one_line
from planner.results.run_list import RunEntry
from planner.runs.records import now

if TYPE_CHECKING:
    import pandas as pd

_STYLES = {"finished": "green", "failed": "red", "stopped": "yellow"}
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def run_list_text(folder: Path, entries: Sequence[RunEntry]) -> Text:
    """Return runs one a paragraph: what each is and how far it came, and below that its answer."""
    if not entries:
        return Text(f"no runs in {folder}")
    head, styles = [["run", "state", "said", "model", "plans"]], ["bold"]
    for entry in entries:
        head.append(
            [
                str(entry.path),
                entry.state or "unreadable",
                "" if entry.updated_at is None else _ago(entry.updated_at),
                entry.model,
                str(entry.evaluations) if entry.state and not entry.recipes else "",
            ]
        )
        styles.append(_STYLES.get(entry.state or "failed", ""))
    first, *lines = aligned_lines(head)
    told = [Text(first, styles[0])]
    for line, style, entry in zip(lines, styles[1:], entries, strict=True):
        told.append(Text(line, style))
        told += [Text(f"    {one_line(words)}") for words in _words(entry)]
    return Text("\n").join(told)


def run_list_frame(entries: Sequence[RunEntry]) -> "pd.DataFrame":
    """Return runs as a table.

    Columns: ``path`` in the folder; ``state``, empty if the run cannot be read; ``phase``;
    ``updated_at``; ``model``; ``budget``; ``evaluations``; ``recipes`` of a comparison, comma
    separated; ``answer``; ``fault``.
    """
    import pandas as pd  # noqa: PLC0415  (60 MB that text can do without)

    rows = []
    for entry in entries:
        row = asdict(entry) | {"path": entry.path.as_posix(), "recipes": ",".join(entry.recipes)}
        row["state"] = entry.state or ""
        rows.append({k: _encodable(v) if isinstance(v, str) else v for k, v in row.items()})
    return pd.DataFrame(rows, columns=list(RunEntry.__dataclass_fields__))


def _encodable(text: str) -> str:
    r"""Return text, with what is no UTF-8 in the name of a file written as Python does.

    >>> _encodable("bad\udcff")
    'bad\\udcff'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _words(entry: RunEntry) -> list[str]:
    """Return what is said below a run."""
    if entry.fault:
        return [entry.fault]
    if entry.recipes:
        return [f"a comparison of {', '.join(entry.recipes)}"]
    doing = entry.phase if entry.phase not in ("", entry.state) else ""
    within = f"within {entry.budget}: " if entry.budget else ""
    return [words for words in (doing, f"{within}{entry.answer}") if words]


def _ago(moment: datetime) -> str:
    """Return how long ago something was, in its largest unit."""
    seconds = max(0, round((now() - moment).total_seconds()))
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "just now"
