"""A search for number formats that llama.cpp loads, from the space to the file."""

from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from planner import Run, search
from planner.export.cards.manifest import Manifest
from planner.export.run_exports import export_from_run
from planner.runs.run_store import RunStore
from planner.targets.gguf.gguf_file import GgufModel, write_file
from planner.targets.gguf.gguf_layers import blocks_of, embedding_shape
from planner.targets.gguf.gguf_vocabulary import vocabulary_of
from planner.targets.target_names import TargetChoice
from search_spaces.errors import TargetError
from search_spaces.space.plan import Plan
from tests.models.families import dense
from tests.models.merging_tokenizers import of_bytes
from tests.settings import SHORT_TEXT


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of a saved Llama whose tokenizer llama.cpp knows."""
    folder = tmp_path_factory.mktemp("models")
    dense("llama").backbone.model.save_pretrained(folder / "llama")
    of_bytes().save_pretrained(folder / "llama")
    chosen: dict[str, Any] = {
        "budget": "size<=0.5x",
        "space": "channels,formats",
        "formats": "Q8_0,Q4_1",
        "loads_in": "llama.cpp",
        "quantizer": "rtn",
        "evaluations": 16,
        "population": 4,
        **SHORT_TEXT,
    }
    return search(str(folder / "llama"), out=folder / "run", **chosen)


def exported(run: Run, plan_id: str, out: Path, **options: str) -> tuple[Plan, Manifest]:
    choice = TargetChoice(name="gguf", options=options)
    export_from_run(RunStore.open(run.folder), plan_id, out, choice=choice)
    text = (out / "manifest.json").read_text(encoding="utf-8")
    return Plan.load(out / "plan.json"), Manifest.model_validate_json(text)


def test_a_file_holds_what_was_searched_to_the_byte(run: Run, tmp_path: Path) -> None:
    best = run.best("size<=0.5x")
    plan, manifest = exported(run, best.plan_id, tmp_path / "export")
    assert {kept.format for kept in plan.sites.values()} - {""}
    assert "embedding" in plan.sites
    tensors = GGUFReader(tmp_path / "export" / "model.gguf").tensors
    assert sum(int(each.n_bytes) for each in tensors) == manifest.costs["size"]
    assert manifest.costs["size"] == best.costs["size"] <= 0.5 * manifest.dense_costs["size"]
    assert manifest.costs["bits"] == pytest.approx(8 * best.costs["size"] / best.costs["params"])
    assert manifest.written_size is None
    # the F32 form of the same bytes, of which llama.cpp rounds nothing
    assert manifest.logit_gap < 0.01 * manifest.logit_gap_allowed
    assert manifest.service.kl is not None
    assert manifest.service.kl.value > 0
    card = (tmp_path / "export" / "README.md").read_text(encoding="utf-8")
    assert "holds the very numbers that were scored" in card
    assert "Of its matrices the plan has" in card
    assert "Between both files in llama.cpp it is" in card


def test_one_type_for_all_is_refused_where_a_plan_chose_one_for_each(
    run: Run, tmp_path: Path
) -> None:
    best = run.best("size<=0.5x")
    with pytest.raises(TargetError, match="one type, Q8_0, and this plan chose one for each"):
        exported(run, best.plan_id, tmp_path / "export", file_type="Q8_0")
    _, manifest = exported(run, best.plan_id, tmp_path / "full", file_type="F32")
    assert manifest.service.served_as == {"file_type": "F32"}


def test_tensors_that_came_quantised_are_copied_bit_by_bit(tmp_path: Path) -> None:
    structure, tokenizer = dense("llama"), of_bytes()
    size, _ = embedding_shape(structure)
    source = tmp_path / "source.gguf"
    model = GgufModel(
        structure=structure,
        blocks=blocks_of(structure, structure.backbone.layers),
        vocabulary=vocabulary_of(tokenizer, size),
    )
    write_file(source, model, "Q8_0")
    chosen: dict[str, Any] = {
        "budget": "size<=0.8x",
        "space": "drops,formats",
        "formats": "source",
        "loads_in": "llama.cpp",
        "evaluations": 12,
        "population": 4,
        **SHORT_TEXT,
    }
    run = search(str(source), out=tmp_path / "run", **chosen)
    plan, manifest = exported(run, run.best("size<=0.8x").plan_id, tmp_path / "export")
    kept = [name for name, each in plan.sites.items() if each.kept and each.format == "source"]
    assert kept
    came = {each.data.tobytes() for each in GGUFReader(source).tensors}
    tensors = GGUFReader(tmp_path / "export" / "model.gguf").tensors
    copied = [each for each in tensors if each.tensor_type.name == "Q8_0"]
    assert copied
    assert all(each.data.tobytes() in came for each in copied)
    assert not (tmp_path / "export" / "tensor-types.txt").exists()
    assert any("as they came in a quantised file" in note for note in manifest.notes)
