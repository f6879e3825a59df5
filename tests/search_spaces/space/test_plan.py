"""Plans survive the way to a file and back, and what is no plan is refused."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.errors import PlanError
from search_spaces.models.identity import ModelIdentity
from search_spaces.space.component_plan import ComponentPlan
from search_spaces.space.plan import Plan
from search_spaces.structure.components import ComponentKind
from search_spaces.structure.projections import Projections

IDENTITY = ModelIdentity(architecture="LlamaForCausalLM", fingerprint="0123abcd", params=1000)
SITES = {
    "layers.0.attention": ComponentPlan(unit_count=4, kept="0-1,3"),
    "layers.0.mlp": ComponentPlan(unit_count=48, kept=""),
}
PLAN = Plan(model=IDENTITY, sites=SITES)
KINDS: tuple[tuple[ComponentKind, int], ...] = (("attention", 4), ("mlp", 48))
BLOCKS = tuple(
    Projections(kind=kind, layer=0, unit_count=width, projections=(), module="")
    for kind, width in KINDS
)


@pytest.mark.parametrize(
    ("units", "text"),
    [
        ([], ""),
        ([0], "0"),
        ([5, 4], "4-5"),
        ([7, 0, 2, 1, 3], "0-3,7"),
        ([0, 2, 4, 5, 6], "0,2,4-6"),
    ],
)
def test_units_are_written_as_ranges(units: list[int], text: str) -> None:
    kept = ComponentPlan.of(np.array(units, dtype=np.int_), 8)
    assert kept.kept == text
    assert kept.unit_count == 8
    assert kept.units.tolist() == sorted(units)


@given(st.sets(st.integers(0, 200)), st.integers(0, 9))
def test_any_units_survive(units: set[int], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(sorted(units)).astype(np.int_)
    kept = ComponentPlan.of(order, 201)
    assert kept.units.tolist() == sorted(units)
    assert ComponentPlan.model_validate_json(kept.model_dump_json()) == kept


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x", "ranges such as `0-3,7`, got `x`"),
        ("0-3;7", "got `0-3;7`"),
        ("3-", "got `3-`"),
        ("-3", "got `-3`"),
        ("1-2-3", "got `1-2-3`"),
        ("1.5", r"got `1\.5`"),
        ("٣", "ranges such as"),
        ("9" * 5000, "ranges such as"),
        ("3-1", "ascend and lie below 8, got `3-1`"),
        ("2,1", "ascend and lie below 8, got `2,1`"),
        ("1,1", "ascend and lie below 8"),
        ("0-3,3-4", "ascend and lie below 8"),
        ("8", "ascend and lie below 8"),
        ("0-8", "ascend and lie below 8"),
        ("0-999999999", "ascend and lie below 8"),
    ],
)
def test_malformed_ranges_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        _ = ComponentPlan(unit_count=8, kept=text).units


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(PLAN.to_json(), encoding="utf-8")
    assert Plan.load(path) == PLAN
    assert json.loads(path.read_text(encoding="utf-8"))["version"] == 7


def test_the_id_is_a_hash_of_model_and_units() -> None:
    content = {"layers.0.attention": "0-1,3", "layers.0.mlp": ""}
    text = json.dumps(["0123abcd", content])
    assert PLAN.plan_id == hashlib.sha256(text.encode()).hexdigest()[:10]
    assert len(PLAN.plan_id) == 10


def test_the_id_knows_nothing_of_layout() -> None:
    turned = Plan(model=IDENTITY, sites=dict(reversed(SITES.items())))
    assert turned.plan_id == PLAN.plan_id
    assert Plan.model_validate_json(PLAN.model_dump_json()).plan_id == PLAN.plan_id


def test_the_id_differs_with_what_is_kept_and_of_whom() -> None:
    other = Plan(
        model=IDENTITY, sites={**SITES, "layers.0.mlp": ComponentPlan(unit_count=48, kept="0")}
    )
    foreign = Plan(model=IDENTITY.model_copy(update={"fingerprint": "ffff"}), sites=SITES)
    assert len({PLAN.plan_id, other.plan_id, foreign.plan_id}) == 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "and it is no JSON object; export"),
        (b"{", "and it is no JSON object; export"),
        (b"[]", "and it is no JSON object; export"),
        (b"\xff\xfe", "must be a readable JSON file"),
        (
            PLAN.to_json().replace('"version": 7', '"version": 8').encode(),
            "it is of version 8; export",
        ),
        (PLAN.to_json().replace('"version"', '"edition"').encode(), "`edition` is unknown"),
        (PLAN.to_json().replace("48", '"x"').encode(), r"`sites\.layers\.0\.mlp\.unit_count` is"),
        (b'{"sites": {}}', "`model` is missing"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(text: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(text)
    with pytest.raises(PlanError, match=complaint):
        Plan.load(path)


def test_a_file_in_a_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "plan.json").write_text(PLAN.to_json(), encoding="utf-8")
    assert Plan.load(Path("~/plan.json")) == PLAN


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"`.*gone\.json` is not: .*; check the path"):
        Plan.load(tmp_path / "gone.json")


def test_another_model_is_refused() -> None:
    PLAN.check_model(IDENTITY)
    other = IDENTITY.model_copy(update={"fingerprint": "beef"})
    complaint = "made for, and its weights changed .*: fingerprint 0123abcd → beef; give"
    with pytest.raises(PlanError, match=complaint):
        PLAN.check_model(other)


def test_kept_units_come_in_the_order_of_the_components() -> None:
    turned = Plan(model=IDENTITY, sites=dict(reversed(SITES.items())))
    assert [units.tolist() for units in turned.kept_units(BLOCKS)] == [[0, 1, 3], []]


@pytest.mark.parametrize(
    ("sites", "complaint"),
    [
        ({"layers.0.attention": SITES["layers.0.attention"]}, r"`layers\.0\.mlp` is missing"),
        ({**SITES, "layers.1.mlp": SITES["layers.0.mlp"]}, r"`layers\.1\.mlp` is missing, unkn"),
        ({**SITES, "layers.0.mlp": ComponentPlan(unit_count=40, kept="")}, "of another width"),
        (
            {**SITES, "layers.0.attention": ComponentPlan(unit_count=4, kept="")},
            "must keep some attention, and this one drops all",
        ),
    ],
)
def test_a_plan_of_other_components_is_refused(
    sites: dict[str, ComponentPlan], complaint: str
) -> None:
    with pytest.raises(PlanError, match=complaint):
        Plan(model=IDENTITY, sites=sites).kept_units(BLOCKS)
