import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evaluators.data.windows import Calibration


def test_tokens_survive_the_file_without_pickle(tmp_path: Path) -> None:
    tokens = torch.arange(12).reshape(3, 4)
    found = Calibration(
        search=tokens, fresh=tokens + 12, holdout=tokens + 24, extra=tokens + 36, source="a text"
    )
    path = tmp_path / "tokens.npz"
    found.save(path)
    again = Calibration.load(path)
    assert torch.equal(again.search, found.search)
    assert torch.equal(again.fresh, found.fresh)
    assert torch.equal(again.holdout, found.holdout)
    assert again.search.dtype == torch.long
    assert again.source == found.source
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)


def test_a_pickle_in_the_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "tokens.npz"
    bomb = np.array([pickle], dtype=object)
    bomb[0] = ValueError
    np.savez(path, search=bomb, fresh=bomb, holdout=bomb, source=bomb)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Calibration.load(path)


SOUND = {
    **dict.fromkeys(("search", "fresh", "holdout", "extra"), np.zeros((2, 3), dtype=np.int64)),
    "source": np.array("a text"),
}


@pytest.mark.parametrize(
    "changes",
    [
        {"search": None},
        {"source": None},
        {"fresh": np.zeros((2, 3))},
        {"extra": np.zeros(3, dtype=np.int64)},
        {"holdout": np.zeros((2, 4), dtype=np.int64)},
        {"search": np.full((2, 3), -1)},
    ],
)
def test_arrays_that_are_no_tokens_are_refused(
    changes: dict[str, NDArray[Any] | None], tmp_path: Path
) -> None:
    path = tmp_path / "tokens.npz"
    np.savez(path, **SOUND)
    Calibration.load(path)
    held = {name: array for name, array in {**SOUND, **changes}.items() if array is not None}
    np.savez(path, **held)
    with pytest.raises(ValueError, match="tokens"):
        Calibration.load(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04cut", b"\x93NUMPY", b"no array"])
def test_a_file_of_something_else_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokens.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        Calibration.load(path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ValueError, match="cannot be read as tokens"):
        Calibration.load(tmp_path / "one.npy")
