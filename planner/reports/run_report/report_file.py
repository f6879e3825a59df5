"""Writing the report of a run: where to, in which format, and over what."""

from pathlib import Path
from typing import Literal, get_args

from planner.reports.plots import MADE_BY, draw_front
from planner.run import Run
from planner.runs.folder import FRONT_PICTURE, REPORT_FILE
from search_spaces.atomic_files import atomic_write_text, check_parent
from search_spaces.errors import MissingExtraError, OutputError, RunError, SettingsError

ReportFormat = Literal["html", "png", "svg", "pdf"]
"""A page with all of it; or the front alone, for a paper."""


def write_report(run: Run, out: Path | None, report_format: ReportFormat | None) -> Path:
    """Write the report of a run, over an earlier one.

    Args:
        run: The run.
        out: File to write; by default ``report.html`` or ``front.FORMAT`` in the run's folder.
        report_format: Of the file; by default as its name says, and else a page.

    Returns:
        The file.

    Raises:
        RunError: If the run has no front yet.
        SettingsError: If the file's name says another format.
        OutputError: If the file cannot be written, or is something else than a report.
        MissingExtraError: If packages are missing that a page is made with.
    """
    named = _format_of(out)
    chosen = report_format or named or "html"
    if named not in (None, chosen):
        raise SettingsError(
            f"`--format` must be what `--out` ends in, got {chosen} for `{out}`; leave one of "
            "them out"
        )
    path = _default(run, chosen) if out is None else out
    if not run.front_plans():
        raise RunError(
            f"a report needs a run with a front, got `{run.folder}` without a plan that is scored "
            "on all of its text; let the search go on"
        )
    _check_place(path)
    if chosen == "html":
        atomic_write_text(path, _page(run))
    else:
        draw_front(run, path, chosen)
    return path


def _format_of(out: Path | None) -> ReportFormat | None:
    """Return the format that a file's name says, if it says one."""
    ending = out.suffix.removeprefix(".").lower() if out else ""
    return next((name for name in get_args(ReportFormat) if name == ending), None)


def _default(run: Run, chosen: ReportFormat) -> Path:
    name = REPORT_FILE if chosen == "html" else Path(FRONT_PICTURE).with_suffix(f".{chosen}").name
    return run.folder / name


def _page(run: Run) -> str:
    try:
        import jinja2  # noqa: F401, PLC0415  (an extra's)
        import plotly  # noqa: F401, PLC0415  (as above)
    except ImportError as error:
        package = error.name or "plotly"
        raise MissingExtraError(package, "browse", "a report as a page") from error
    from planner.reports.run_report.report_page import report_page  # noqa: PLC0415  (needs both)

    return report_page(run)


def _check_place(path: Path) -> None:
    """Refuse a place that is no file's, or where something lies that is no report.

    Raises:
        OutputError: If it is so.
    """
    if path == Path("-"):
        raise OutputError(
            "a report goes into a file, got `-`; give `--out` a name such as report.html"
        )
    check_parent(path)
    if not path.exists() and not path.is_symlink():
        return
    try:
        is_ours = path.is_file() and MADE_BY.encode() in path.read_bytes()
    except OSError:
        is_ours = False
    if not is_ours:
        raise OutputError(
            f"a report must be a new file or replace an earlier report, got `{path}`, which is "
            "neither; give another name as `--out`, or remove it"
        )
