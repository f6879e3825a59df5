"""Atomic writes: a file or folder is complete or absent, and what killed processes left is found.

Unfinished files and folders have names that tell them from all others, and owners that can be
told to be alive or dead.
"""

import errno
import os
import platform
import re
import shutil
import stat
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from search_spaces.errors import OutputError

REMEDIES = {
    errno.ENOSPC: "free some space or choose another place",
    errno.EDQUOT: "free some of your quota or choose another place",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) or choose another place",
    errno.EROFS: "choose a place that is not mounted read-only",
    errno.EACCES: "choose a place that you may write to",
    errno.EPERM: "choose a place that you may write to",
    errno.ENOTDIR: "choose a path whose parents are folders",
    errno.EEXIST: "choose a path that is not a file",
    errno.EISDIR: "choose a path that is not a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "choose a path whose links end somewhere",
    errno.EIO: "look after the disk or choose another place",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close other programs, for the system has too many files open",
    errno.ENOENT: "see to it that nothing moves or deletes it meanwhile",
    errno.EBUSY: "end what else uses it or choose another place",
    **dict.fromkeys(
        (errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT),
        "bring the disk of the network back or choose another place",
    ),
}
_TEMPORARY = re.compile(
    r"\.(?P<stem>.+)\.(?P<owner>\d+)(-(?P<home>[0-9a-f]{8}))?\.tmp(?P<suffix>\.[^.]*)?"
)
_SCRATCH = re.compile(r"\.(?P<stem>.+)\.(?P<home>[0-9a-f]{8})\.[^.]+\.scratch")
_SCRATCH_LOCK = "planner-scratch.lock"
"""In each scratch folder, held by the process that made it: it marks the folder as ours."""
LONGEST_NAME = 230
"""Bytes of a name that `scratch_beside` may be asked for: file systems take 255, and that of the
scratch folder is longer."""
_PROBE = ".planner-probe"
_CLOCK_SECONDS = 2.0
"""By which the start of a process and the time of a file may be off."""
_STRANGER_SECONDS = 86_400.0
"""After which what another machine left untouched is taken for that of the dead."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn any `OSError` raised while ``path`` is written into an `OutputError`."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "the system refuses it"
        remedy = REMEDIES.get(error.errno or 0, "choose another place")
        raise OutputError(f"`{path}` must be writable, got: {reason}; {remedy}") from error


def check_parent(path: Path) -> None:
    """Refuse a path that a user chose in a folder that does not exist.

    Raises:
        OutputError: If it is one.
    """
    with writing(path):
        if path.parent.exists():
            return
    raise OutputError(f"`{path}` must be writable, got: its folder does not exist; make it first")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` on success and is removed on failure.

    Raises:
        OutputError: If the path cannot be written to; an earlier file there is kept.
    """
    temporary = temporary_path(path, os.getpid())
    with writing(path):
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            _allow(temporary, mode)
            _sync(temporary)
            temporary.replace(path)
            _sync_folder(path.parent)
        except BaseException:
            discard(temporary)
            raise


def atomic_write_text(path: Path, text: str) -> None:
    """Write a text file that is never seen half-written under its own name.

    Raises:
        OutputError: If the path cannot be written to; an earlier file there is kept.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def temporary_path(path: Path, owner: int) -> Path:
    """Return where a process of this machine writes a file that `replacing` gives its name."""
    return path.with_name(f".{path.stem}.{owner}-{_home()}.tmp{path.suffix}")


def _home() -> str:
    """Return a mark of where a process's number is its own: a machine, or a container in it."""
    numbers = ""
    with suppress(OSError):  # Linux alone has it
        numbers = os.readlink("/proc/self/ns/pid")  # noqa: PTH115  (no path)
    return f"{zlib.crc32(f'{platform.node()} {numbers}'.encode()):08x}"


def finished_name(path: Path) -> str | None:
    """Return the name that a temporary file of `replacing` is to get; none for any other file."""
    match = _TEMPORARY.fullmatch(path.name)
    return match and match["stem"] + (match["suffix"] or "")


def is_abandoned(path: Path) -> bool:
    """Return whether a temporary file is of a process that runs no longer.

    Another process may have got the number of the dead one; it began after the file was written.
    One of another machine, in a folder that both see, is taken for alive until the file is old;
    a name without a machine, as earlier versions wrote it, is of this one.
    """
    match = _TEMPORARY.fullmatch(path.name)
    if match is None:
        return False
    try:
        written = path.stat().st_mtime
        if match["home"] not in (None, _home()):
            return _is_old(written)
        process = psutil.Process(int(match["owner"]))
        is_dead = process.status() == psutil.STATUS_ZOMBIE
        return is_dead or process.create_time() > written + _CLOCK_SECONDS
    except (psutil.NoSuchProcess, OverflowError):
        return True
    except (OSError, psutil.AccessDenied):  # gone already, or somebody else's
        return False


def _is_old(written: float) -> bool:
    return time.time() - written > _STRANGER_SECONDS


def discard(path: Path) -> None:
    """Remove a file if possible."""
    with suppress(OSError):
        path.unlink()


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and its parents, and return those that were missing, the folder first.

    Raises:
        OutputError: If it cannot be made.
    """
    with writing(folder):
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        if any(path.name == ".." for path in missing):  # the folder before it would be made too
            raise OutputError(
                f"`{folder}` must lead through folders that exist, got `..` behind one that does "
                "not; write the path without it"
            )
        folder.mkdir(parents=True, exist_ok=True)
    return missing


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, up to the first that holds something."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


@contextmanager
def scratch_beside(out: Path) -> Iterator[Path]:
    """Provide a folder on the disk of ``out``, which is deleted afterwards, whatever happens.

    Those that killed processes left for the same ``out`` are deleted now.

    Raises:
        OutputError: If the disk cannot be written to.
    """
    made = make_folder(out.parent)
    try:
        with writing(out):
            clear_scratch(out)
            scratch, lock = _locked_scratch(out)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)  # follows no links
            lock.release()
    finally:
        remove_empty(made)


def _locked_scratch(out: Path) -> tuple[Path, FileLock]:
    """Make a scratch folder; until it is locked, others may take it for that of the dead."""
    while True:
        scratch = Path(tempfile.mkdtemp(".scratch", f".{out.name}.{_home()}.", out.parent))
        lock = FileLock(scratch / _SCRATCH_LOCK)
        with suppress(Timeout, FileNotFoundError):
            lock.acquire(timeout=0)
            if (scratch / _SCRATCH_LOCK).exists():
                return scratch, lock
            lock.release()


def clear_scratch(out: Path) -> None:
    """Delete the scratch folders that this user's killed processes left for ``out``."""
    clear_scratch_in(out.parent, out.name)


def clear_scratch_in(folder: Path, name: str | None = None) -> None:
    """Delete those that they left in a folder, for one name or for all.

    Those of another machine stay until they are old: not every shared disk shares its locks.
    """
    for scratch in folder.glob(".*.scratch"):
        match = _SCRATCH.fullmatch(scratch.name)
        if match is None or name not in (None, match["stem"]):
            continue
        with suppress(OSError):  # gone already, or its owner lives: a `Timeout` is one too
            status = scratch.lstat()
            is_dead = match["home"] == _home() or _is_old(status.st_mtime)
            if is_dead and stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                _clear(scratch)


def _clear(scratch: Path) -> None:
    lock_path = scratch / _SCRATCH_LOCK
    if not lock_path.is_file():
        remove_empty([scratch])  # killed before it was marked, and so before it was filled
        return
    with FileLock(lock_path).acquire(timeout=0):
        shutil.rmtree(scratch, ignore_errors=True)


def publish(folder: Path, out: Path) -> None:
    """Give a finished folder its name, once every file of it is on the disk.

    An empty folder of that name is replaced, and its mode kept.
    """
    probe = folder / _PROBE
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            _allow(Path(place) / name, mode)
            _sync(Path(place) / name)
        _sync_folder(Path(place))
    if out.is_dir():
        folder.chmod(stat.S_IMODE(out.stat().st_mode))
    folder.rename(out)
    _sync_folder(out.parent)


def _allow(path: Path, mode: int) -> None:
    """Let those read a file who may read any that is simply opened; safetensors lets only us."""
    if path.stat().st_mode != mode:
        path.chmod(stat.S_IMODE(mode))


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every file system syncs folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
