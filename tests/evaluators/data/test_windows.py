import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators.data.windows import DRAWS, Calibration


def test_tokens_survive_the_file_without_pickle(tmp_path: Path) -> None:
    tokens = torch.arange(12).reshape(3, 4)
    found = Calibration(
        statistics=tokens + 36,
        search=tokens,
        fresh=tokens + 12,
        holdout=tokens + 24,
        source="a text",
    )
    path = tmp_path / "tokens.npz"
    found.save(path)
    again = Calibration.load(path)
    for name in DRAWS:
        assert torch.equal(getattr(again, name), getattr(found, name))
    assert again.search.dtype == torch.long
    assert again.source == found.source
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)


def test_a_pickle_in_the_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "tokens.npz"
    bomb = np.array([pickle], dtype=object)
    bomb[0] = ValueError
    np.savez(path, statistics=bomb, search=bomb, fresh=bomb, holdout=bomb, source=bomb)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Calibration.load(path)
