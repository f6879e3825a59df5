"""Opening a run to recover plans of it: for writing, with its model as it was searched."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from planner.preparation.calibration import check_saved_text
from planner.preparation.dense_model import arithmetic_of, as_begun, open_model
from planner.preparation.latency_tables import read_table
from planner.preparation.prepare import prepare
from planner.preparation.prepared_model import PreparedModel
from planner.runs.folder import RECOVERED_FOLDER
from planner.runs.run_store import RunStore
from planner.runs.vacancy import saved_settings
from search_spaces.atomic_files import clear_scratch_in
from search_spaces.progress import Progress


@contextmanager
def run_to_recover(
    folder: Path, progress: Progress, *, trust_remote_code: bool = False
) -> Iterator[tuple[RunStore, PreparedModel]]:
    """Open a run for writing, and prepare its model with what the folder holds of that.

    What killed recoveries of any of its plans left unfinished is deleted.

    Args:
        folder: Of the run.
        progress: Receives stages and progress.
        trust_remote_code: Run Python code that comes with the model, whatever the run did.

    Raises:
        InputError: If the user must correct something, such as a run in use, or another model.
    """
    with RunStore.resume(folder, saved_settings(folder)) as run:
        run.check_search()
        clear_scratch_in(run.folder / RECOVERED_FOLDER)
        # code is trusted by a command line, never by a folder
        settings = run.settings.model_copy(update={"trust_remote_code": trust_remote_code})
        settings = as_begun(settings, run.metadata.arithmetic)
        dense = open_model(settings, progress)
        run.check_model(dense.loaded.identity)
        check_saved_text(run)
        run.check_arithmetic(arithmetic_of(dense))
        if (table := read_table(dense, settings, folder)) is not None:
            dense = replace(dense, costs=dense.costs.timed(table))
        yield run, prepare(dense, settings, folder, progress, scored_in=run.arithmetic)
