import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import kill
from benchmarks.fuzzing import hooks
from benchmarks.fuzzing.kills import Moment, Place, Scenario, scenarios
from benchmarks.fuzzing.materials import Materials

EXPORT = Scenario(command="export", words=["export"], again=["export"])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "kill", EXPORT, Materials(root=tmp_path))


def test_there_are_fifty_kills_of_every_command_and_the_seed_says_which(tmp_path: Path) -> None:
    found = kill.moments(0)
    assert len(found) == 50
    assert {name for name, _ in found} == set(scenarios(Materials(root=tmp_path)))
    assert {moment.number for _, moment in found} == {
        signal.SIGKILL,
        signal.SIGTERM,
        signal.SIGINT,
    }
    assert found == kill.moments(0) != kill.moments(1)


def test_a_command_that_ended_too_soon_is_killed_earlier() -> None:
    moment = Moment(step="commit", count=5)
    assert [(moment := moment.earlier()).count for _ in range(2)] == [2, 1]
    assert (moment := moment.earlier()).step == "time"
    assert moment.earlier().share == moment.share / 2


def test_what_is_the_users_is_known_from_what_is_left(place: Place) -> None:
    assert list(place.left()) == list(place.harmed()) == []
    (place.work / ".out.x1y2").mkdir()
    (place.work / ".front.12.tmp.csv").touch()
    assert [name for _, name in place.left()] == [".front.12.tmp.csv", ".out.x1y2"]
    (place.work / "notes.txt").write_text("changed")
    (place.work / ".notes.tmp").unlink()
    assert {name for _, name in place.harmed()} == {"notes.txt", ".notes.tmp"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("environment.json", b"{"),
        ("settings.yaml", b""),
        ("order.npz", b"PK"),
        ("model.safetensors", b"\0"),
        ("front.csv", b"a,b\n1\n"),
        ("front.png", b"\x89PNG"),
    ],
)
def test_a_file_that_is_not_whole_is_found(name: str, content: bytes, place: Place) -> None:
    place.out.mkdir()
    (place.out / name).write_bytes(content)
    found = [what for _, what in place.half_written(EXPORT)]
    assert found[0].startswith(f"out/{name}")


PROGRAM = """
import sqlite3, sys
from pathlib import Path
import hooks

hooks.install(step=sys.argv[1], count=int(sys.argv[2]), delay=0, number=9)
connection = sqlite3.connect("rows")
for number in range(5):
    Path("file").touch()
    Path("file").replace(f"file{number}")
    with connection:
        connection.execute("insert into rows values (?)", (number,))
"""


@pytest.mark.parametrize(
    ("step", "count", "renamed", "committed"),
    [
        ("replace", 2, 1, 1),
        ("after-replace", 2, 2, 1),
        ("commit", 2, 2, 1),
        ("after-commit", 2, 2, 2),
        ("commit", 9, 5, 5),
    ],
)
def test_a_hook_ends_a_process_at_the_step_that_it_is_told(
    step: str, count: int, renamed: int, committed: int, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "rows") as connection:
        connection.execute("create table rows (number)")
    command = [sys.executable, "-c", PROGRAM, step, str(count)]
    environment = {"PYTHONPATH": str(Path(hooks.__file__).parent)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, check=False)
    assert ended.returncode == (-signal.SIGKILL if count == 2 else 0)
    assert len(list(tmp_path.glob("file?"))) == renamed
    assert connection.execute("select count(*) from rows").fetchone() == (committed,)
    connection.close()
