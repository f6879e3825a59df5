"""Arrays of a run come back as they were written, or are refused in a sentence."""

import io
from pathlib import Path

import numpy as np
import pytest

from planner.runs.arrays import read_arrays
from search_spaces.errors import RunError

ARRAYS = {"order": np.arange(6), "source": np.array("text"), "harm": np.ones((2, 3))}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.savez(tmp_path / "ranking.npz", allow_pickle=False, **ARRAYS)
    return tmp_path / "ranking.npz"


def _npy() -> bytes:
    content = io.BytesIO()
    np.save(content, np.arange(3))
    return content.getvalue()


def _pickled() -> bytes:
    content = io.BytesIO()
    np.savez(content, order=np.array([object()], dtype=object))
    return content.getvalue()


def test_arrays_come_back(path: Path) -> None:
    found = read_arrays(path)
    assert found.keys() == ARRAYS.keys()
    assert all(np.array_equal(found[name], array) for name, array in ARRAYS.items())


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"words" * 99, _npy(), _pickled(), b"PK\x05\x06" + b"\xff" * 18]
)
def test_what_holds_no_arrays_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"ranking\.npz` must hold the arrays of its run"):
        read_arrays(path)


def test_a_missing_file_is_called_that(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="it is missing"):
        read_arrays(tmp_path / "ranking.npz")


def test_no_changed_bit_changes_an_array(path: Path) -> None:
    """Each is refused, or costs a whole array, which the reader then lacks."""
    content, refused = path.read_bytes(), 0
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        try:
            found = read_arrays(path)
        except RunError:
            refused += 1
            continue
        assert all(np.array_equal(array, ARRAYS[name]) for name, array in found.items())
    assert refused > len(content) // 2


def test_arrays_that_may_not_be_read_are_not_called_damaged(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)  # root may read any mode
    with pytest.raises(PermissionError):
        read_arrays(path)
