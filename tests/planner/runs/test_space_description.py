"""``space.json``: what it says of a genome, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from planner.runs.space_description import SpaceDescription, read_space, save_space
from search_spaces.errors import RunError

CONTENT: dict[str, Any] = {
    "version": 3,
    "model": {"architecture": "A", "fingerprint": "abc", "params": 1000},
    "components": [
        {"name": "layers.0.attention", "kind": "attention", "layer": 0, "units": 2,
         "unit": "KV groups", "features": 8},
        {"name": "layers.0.experts", "kind": "experts", "layer": 0, "units": 4,
         "unit": "experts", "features": 16, "channels": 16, "top_k": 2},
    ],
    "sites": [
        {"name": "layers.0.attention", "dimension": "units", "targets": ["layers.0.attention"],
         "levels": [[{"units": 0}], [{"units": 1}], [{"units": 2}]],
         "costs": {"params": [800, 900, 1000]}},
        {"name": "layers.0.experts", "dimension": "units", "targets": ["layers.0.experts"],
         "levels": [[{"units": 0}], [{"units": 2}], [{"units": 4}]],
         "costs": {"params": [500, 750, 1000]}},
        {"name": "layers.0.experts.top_k", "dimension": "top_k", "targets": ["layers.0.experts"],
         "levels": [[{"units": 4, "options": {"top_k": 1}}], [{"units": 4}]],
         "costs": {"params": [1000, 1000]}},
        {"name": "layers.0.experts.weights", "dimension": "pattern",
         "targets": ["layers.0.experts"],
         "levels": [[{"units": 4, "options": {"pattern": "50%"}}], [{"units": 4}]],
         "costs": {"params": [1000, 1000]}},
    ],
    "dense_costs": {"params": 1000},
    "needed": ["layers.0.attention"],
}  # fmt: skip


@pytest.fixture
def space() -> SpaceDescription:
    return SpaceDescription.model_validate_json(json.dumps(CONTENT))


@pytest.mark.parametrize(
    ("genome", "attention", "experts", "options"),
    [
        ((2, 2, 1, 1), 2, 4, {}),
        ((1, 1, 0, 1), 1, 2, {"top_k": 1}),
        ((1, 1, 0, 0), 1, 2, {"top_k": 1, "pattern": "50%"}),
        ((1, 0, 0, 0), 1, 0, {}),  # what is dropped has no options
        ((0, 2, 1, 1), 1, 4, {}),  # some attention stays
    ],
)
def test_a_genome_is_read_without_the_model(
    space: SpaceDescription,
    genome: tuple[int, ...],
    attention: int,
    experts: int,
    options: dict[str, int | str],
) -> None:
    kept = space.kept(genome)
    assert kept["layers.0.attention"].units == attention
    assert kept["layers.0.experts"].units == experts
    assert kept["layers.0.experts"].options == options


@pytest.mark.parametrize("genome", [(), (2, 2, 1), (2, 2, 1, 1, 1), (3, 2, 1, 1), (-1, 2, 1, 1)])
def test_a_genome_of_another_space_is_refused(
    space: SpaceDescription, genome: tuple[int, ...]
) -> None:
    with pytest.raises(RunError, match=r"of the space in space\.json, got one of another"):
        space.kept(genome)


def test_it_is_read_as_it_was_written_and_written_once(
    space: SpaceDescription, tmp_path: Path
) -> None:
    save_space(tmp_path, space)
    assert read_space(tmp_path) == space
    before = (tmp_path / "space.json").stat().st_ino
    save_space(tmp_path, space)
    assert (tmp_path / "space.json").stat().st_ino == before
    (tmp_path / "space.json").write_text("{", encoding="utf-8")
    save_space(tmp_path, space)
    assert read_space(tmp_path) == space


def _without(key: str) -> dict[str, Any]:
    return {name: value for name, value in CONTENT.items() if name != key}


def _component(**changes: object) -> dict[str, Any]:
    first, *others = CONTENT["components"]
    return CONTENT | {"components": [first | changes, *others]}


def _site(**changes: object) -> dict[str, Any]:
    first, *others = CONTENT["sites"]
    return CONTENT | {"sites": [first | changes, *others]}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"\xff\xfe", b"[" * 9999,
        *map(_without, ("version", "model", "components", "sites", "dense_costs")),
        CONTENT | {"more": 1}, CONTENT | {"needed": ["layers.9.mlp"]},
        *(CONTENT | {"version": version} for version in ("1", True, 1.0, 1.5, None)),
        *(_component(units=units) for units in (0, -1, 2.0, True, "2", 10**30)),
        _component(layer=10**30), _component(name="layers.0.experts"),
        _site(levels=[[{"units": 0}]], costs={}),  # what is needed could be dropped for good
        _site(levels=[[{"units": 0}], [{"units": 0}]], costs={}),
        _site(levels=[[{"units": 1, "options": {"top_k": 10**30}}]] * 3),
        CONTENT | {"dense_costs": {"params": -1}},
        _site(targets=["layers.9.mlp"]), _site(targets=[]), _site(levels=[]),
        _site(levels=[[{"units": 9}]] * 3), _site(levels=[[{"units": -1}]] * 3),
        _site(costs={"params": [1]}), _site(costs={"params": ["x"] * 3}),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(content: bytes | dict[str, Any], tmp_path: Path) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (tmp_path / "space.json").write_bytes(data)
    assert "it is damaged; go on with the search where the model is" in _refused(tmp_path)


def test_a_file_of_another_version_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "space.json").write_text(json.dumps(CONTENT | {"version": 9, "more": 1}))
    assert "must say in version 3 what" in _refused(tmp_path)
    assert "it is of version 9; go on with the search where the model is" in _refused(tmp_path)


def test_a_file_that_says_something_else_than_was_written_is_told(
    space: SpaceDescription, tmp_path: Path
) -> None:
    save_space(tmp_path, space)
    laid_out = json.dumps(json.loads(space.to_json()), indent=4)
    (tmp_path / "space.json").write_text(laid_out, encoding="utf-8")
    assert read_space(tmp_path, space.digest) == space
    other = _site(levels=[[{"units": 0}], [{"units": 2}], [{"units": 2}]])
    (tmp_path / "space.json").write_text(json.dumps(other), encoding="utf-8")
    assert read_space(tmp_path) != space  # sound by itself
    assert "it is another than was written" in _refused(tmp_path, space.digest)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "it is missing; go on with the search where the model is" in _refused(tmp_path)
    (tmp_path / "space.json").mkdir()
    assert "it is damaged" in _refused(tmp_path)
    (tmp_path / "space.json").rmdir()
    (tmp_path / "space.json").symlink_to("space.json")
    assert "it is damaged" in _refused(tmp_path)


def _refused(folder: Path, digest: str | None = None) -> str:
    with pytest.raises(RunError, match=r"space\.json") as raised:
        read_space(folder, digest)
    message = str(raised.value)
    assert len(message.replace(str(folder), "run")) <= 300
    assert "\n" not in message
    return message
