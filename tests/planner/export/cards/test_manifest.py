"""Files are described by what `sha256sum` would say, and a manifest survives its file."""

from pathlib import Path

import pytest

from planner.export.cards.manifest import File, Manifest, describe_files
from tests.planner.export.cards.manifests import MANIFEST, PREDICTION


def test_a_prediction_is_compared_by_the_request() -> None:
    assert PREDICTION.error == pytest.approx(176 / 170 - 1)
    assert PREDICTION.share_error == pytest.approx((176 / 220) / (170 / 200) - 1)


def test_files_have_their_size_and_hash(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(b"abc")
    (tmp_path / "a.txt").write_bytes(b"")
    files = describe_files(tmp_path)
    # sha256 of "abc" and of nothing, as FIPS 180-2 gives them
    assert files == {
        "a.txt": File(
            bytes=0, sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        ),
        "b.txt": File(
            bytes=3, sha256="ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        ),
    }
    assert list(files) == ["a.txt", "b.txt"]


def test_a_manifest_survives_its_file() -> None:
    assert Manifest.model_validate_json(MANIFEST.model_dump_json()) == MANIFEST
