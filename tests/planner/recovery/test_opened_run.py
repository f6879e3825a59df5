"""Opening a run to recover plans of it clears what killed recoveries left, of whichever plan."""

import subprocess
import sys
from pathlib import Path

from planner.recovery.opened_run import run_to_recover
from planner.runs.folder import recovered_folder
from search_spaces.progress import NO_PROGRESS

_KILLED = """
import os, sys
from pathlib import Path
from search_spaces.atomic_files import scratch_beside
made = scratch_beside(Path(sys.argv[1]))
scratch = made.__enter__()
(scratch / "weights").write_text("half")
os._exit(9)
"""


def test_what_a_killed_recovery_left_is_deleted_by_the_next_of_any_plan(
    searched_copy: Path,
) -> None:
    killed = recovered_folder(searched_copy, "a1b2c3d4e5", "refit")
    subprocess.run([sys.executable, "-c", _KILLED, str(killed)], check=False)
    (scratch,) = killed.parent.glob(".a1b2c3d4e5-refit.*.scratch")
    published = killed.with_name("b1b2c3d4e5-refit")
    published.mkdir()
    with run_to_recover(searched_copy, NO_PROGRESS):
        assert not scratch.exists()
        assert published.is_dir()
