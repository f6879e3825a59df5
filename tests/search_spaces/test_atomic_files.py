import errno
import glob
import os
import platform
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from search_spaces.atomic_files import (
    atomic_write_text,
    clear_scratch,
    clear_scratch_in,
    finished_name,
    is_abandoned,
    make_folder,
    publish,
    remove_empty,
    scratch_beside,
    temporary_path,
)
from search_spaces.errors import OutputError


def test_text_is_written_and_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic_write_text(path, "one")
    atomic_write_text(path, "zwei ü")
    assert path.read_text(encoding="utf-8") == "zwei ü"
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "may write"),
        (errno.EIO, "choose another place"),
    ],
)
def test_a_refusal_leaves_the_old_file_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remedy: str
) -> None:
    path = tmp_path / "a.txt"
    atomic_write_text(path, "old")

    def refuse(_: int) -> None:
        raise OSError(code, "refused")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OutputError) as caught:
        atomic_write_text(path, "new")
    assert str(path) in str(caught.value)
    assert remedy in str(caught.value)
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]


def test_a_limit_on_file_sizes_is_met_by_no_file(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match="ulimit"):
            atomic_write_text(tmp_path / "a.txt", "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="whose parents are folders"):
        atomic_write_text(tmp_path / "file" / "a.txt", "x")


def test_a_temporary_file_tells_its_name_and_whether_its_owner_lives(tmp_path: Path) -> None:
    mine, dead = (temporary_path(tmp_path / "front.csv", pid) for pid in (os.getpid(), 2**22 - 1))
    earlier = dead.with_name(f".front.{2**22 - 1}.tmp.csv")  # it did not say of which machine
    for path in (mine, dead, earlier):
        path.write_text("half")
        assert finished_name(path) == "front.csv"
    assert not is_abandoned(mine)
    assert is_abandoned(dead)
    assert is_abandoned(earlier)
    # of another process, which had our number before we began
    os.utime(mine, (1e9, 1e9))
    assert is_abandoned(mine)


@pytest.mark.parametrize(
    "name",
    ["front.csv", ".hidden", ".front.tmp.csv", ".a.b.tmp.csv", "1.tmp", ".front.1-x.tmp.csv"],
)
def test_any_other_file_is_nobodys_temporary_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    assert finished_name(tmp_path / name) is None
    assert not is_abandoned(tmp_path / name)


def test_the_temporary_files_of_zombies_are_abandoned(tmp_path: Path) -> None:
    child = subprocess.Popen(["true"])
    path = temporary_path(tmp_path / "front.csv", child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it ended, and nobody asked yet
    path.write_text("half")
    assert is_abandoned(path)
    child.wait()


def test_folders_that_were_made_are_removed_while_they_are_empty(tmp_path: Path) -> None:
    made = make_folder(tmp_path / "a" / "b" / "c")
    assert made == [tmp_path / "a/b/c", tmp_path / "a/b", tmp_path / "a"]
    assert make_folder(tmp_path / "a") == []
    (tmp_path / "a" / "notes.txt").touch()
    remove_empty(made)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["notes.txt"]


def test_no_folder_is_made_only_to_leave_it_again(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"got `\.\.` behind one that does not; write the path"):
        make_folder(tmp_path / "run" / ".." / "m")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "run").mkdir()
    assert make_folder(tmp_path / "run" / ".." / "m") == [tmp_path / "run/../m"]
    assert (tmp_path / "m").is_dir()


def _killed_in_its_scratch(out: Path) -> Path:
    """Leave the scratch folder of a process that was killed while it filled it."""
    code = (
        "import os, sys; from pathlib import Path;"
        "from search_spaces.atomic_files import scratch_beside;"
        "made = scratch_beside(Path(sys.argv[1])); scratch = made.__enter__();"
        "(scratch / 'weights').write_text('whole'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(out)], check=False)
    (scratch,) = out.parent.glob(f".{glob.escape(out.name)}.*")
    return scratch


def test_scratch_is_gone_whatever_happens(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"

    def fill() -> None:
        with scratch_beside(out) as scratch:
            (scratch / "weights").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_scratch_of_the_dead_is_deleted_by_the_next_and_that_of_the_living_stays(
    tmp_path: Path,
) -> None:
    out, precious = tmp_path / "o[u]t", tmp_path / "precious"
    dead = _killed_in_its_scratch(out)
    precious.mkdir()
    (precious / "notes.txt").write_text("mine")
    (dead / "link").symlink_to(precious)
    other = _killed_in_its_scratch(tmp_path / "other")
    with scratch_beside(out) as first:
        assert not dead.exists()
        with scratch_beside(out) as second:
            assert first.is_dir()
            assert second != first
    assert other.is_dir()  # for the next command that writes there
    assert [path.name for path in precious.iterdir()] == ["notes.txt"]


def test_scratch_of_all_the_dead_in_a_folder_is_deleted(tmp_path: Path) -> None:
    dead = [_killed_in_its_scratch(tmp_path / name) for name in ("a", "b")]
    with scratch_beside(tmp_path / "c") as living:
        clear_scratch_in(tmp_path)
        assert living.is_dir()
        assert not any(scratch.exists() for scratch in dead)


def test_a_folder_that_only_looks_like_scratch_stays(tmp_path: Path) -> None:
    dead = _killed_in_its_scratch(tmp_path / "out")
    shutil.rmtree(dead)
    link = dead.with_stem(dead.stem[:-8] + "linked12")
    dead.mkdir()
    (dead / "notes.txt").write_text("mine")
    link.symlink_to(dead)
    clear_scratch(tmp_path / "out")
    assert (dead / "notes.txt").is_file()
    assert link.is_symlink()


def test_what_another_machine_left_stays_until_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = _killed_in_its_scratch(tmp_path / "out")
    file = temporary_path(tmp_path / "front.csv", 2**22 - 1)
    file.write_text("half")
    monkeypatch.setattr(platform, "node", lambda: "another")
    assert finished_name(file) == "front.csv"
    assert not is_abandoned(file)
    clear_scratch(tmp_path / "out")
    assert (scratch / "weights").is_file()
    for path in (file, scratch):
        os.utime(path, (1e9, 1e9))
    assert is_abandoned(file)
    clear_scratch(tmp_path / "out")
    assert not scratch.exists()


def test_scratch_that_is_taken_for_that_of_the_dead_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, acquire = list[Path](), FileLock.acquire

    def taken(lock: FileLock, **options: Any) -> object:
        made.append(Path(lock.lock_file).parent)
        held = acquire(lock, **options)
        if len(made) < 3:
            shutil.rmtree(made[-1])  # as another process did just before
        return held

    monkeypatch.setattr(FileLock, "acquire", taken)
    with scratch_beside(tmp_path / "out") as scratch:
        assert scratch == made[2]
        assert scratch.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_scratch_of_other_users_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = _killed_in_its_scratch(tmp_path / "out")
    monkeypatch.setattr(os, "geteuid", lambda: dead.stat().st_uid + 1)
    clear_scratch(tmp_path / "out")
    assert dead.is_dir()
    monkeypatch.undo()
    clear_scratch(tmp_path / "out")
    assert not dead.exists()


def test_what_is_published_may_be_read_as_any_file_that_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deeper").mkdir(parents=True)
    for name in ("weights", "deeper/tokens"):
        (folder / name).touch(0o600)
    (tmp_path / "opened").touch()
    publish(folder, tmp_path / "out")
    modes = {path.stat().st_mode for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert modes == {(tmp_path / "opened").stat().st_mode}
    assert sorted(os.listdir(tmp_path / "out")) == ["deeper", "weights"]  # noqa: PTH208


def test_a_folder_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out, synced = tmp_path / "folder", tmp_path / "out", list[str]()
    (folder / "deeper").mkdir(parents=True)
    for name in ("weights", "deeper/tokens"):
        (folder / name).write_text(name)
    sync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    publish(folder, out)
    assert synced == [
        str(folder / "deeper" / "tokens"),
        str(folder / "deeper"),
        str(folder / "weights"),
        str(folder),
        str(tmp_path),
    ]
    assert (out / "deeper" / "tokens").read_text() == "deeper/tokens"
