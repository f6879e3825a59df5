"""The target as a pipeline uses it: written, served, counted, and what is told of it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader

from planner.targets.cut_layers import CutLayers
from planner.targets.gguf.gguf_runtime import tokenize
from planner.targets.gguf.gguf_target import MODEL_FILE, TOLERANCE, GgufTarget
from search_spaces.errors import SettingsError, TargetError, VerificationError
from search_spaces.models.fingerprint import identify
from search_spaces.models.loading import LoadedModel
from search_spaces.models.stored import StoredFormat
from search_spaces.space.block_options import DENSE_EXPERTS
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import random_tokens, run_layers
from tests.models.families import dense
from tests.models.merging_tokenizers import of_bytes
from tests.planner.targets.gguf.kinds import UNIFORM, VARIED, cut_to


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    model = dense("llama").backbone.model
    return LoadedModel(
        model=model,
        tokenizer=of_bytes(),
        source="hub/tiny-llama",
        stored=StoredFormat(dtype=torch.float16),
        identity=identify(model),
    )


def carried_out(structure: ModelStructure, counts: list[int]) -> CutLayers:
    return CutLayers(
        structure=structure,
        layers=tuple(cut_to(structure, counts)),
        kept=tuple(np.arange(count) for count in counts),
        insides=(DENSE_EXPERTS,) * len(counts),
        plan_id="0123456789",
    )


@pytest.fixture(scope="module")
def cut() -> CutLayers:
    return carried_out(dense("llama"), VARIED["all-of-it"])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    (folder / "LICENSE").write_text("As is.")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nbase_model: a/b\n---\n# Tiny\n")
    return folder


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, cut: CutLayers, loaded: LoadedModel, source: Path
) -> Path:
    folder = tmp_path_factory.mktemp("export")
    GgufTarget("F32").write(folder, cut, loaded, source)
    return folder


def test_what_is_served_computes_what_was_cut_and_reads_text_alike(
    folder: Path, cut: CutLayers, loaded: LoadedModel
) -> None:
    target, tokens = GgufTarget("F32"), random_tokens()
    expected = run_layers(cut.structure, cut.layers, tokens).numpy()
    with target.serve(folder, threads=1, exact=True) as served:
        gap = np.abs(served.logits(tokens.numpy()) - expected).max()
    # a hundredth of what is allowed: this family has no table of float16 in it
    assert gap < 0.01 * TOLERANCE * expected.std()
    text = "the inner tin"
    assert tokenize(folder / MODEL_FILE, [text]) == [list(loaded.tokenizer(text).input_ids)]


def test_the_call_that_a_reader_is_told_writes_what_is_served(
    tmp_path: Path, cut: CutLayers, loaded: LoadedModel
) -> None:
    target = GgufTarget("F32")
    loading = target.write(tmp_path, cut, loaded, None).loading
    code = loading.partition("```python")[2].partition("```")[0]
    assert '"max_tokens": 32' in code
    ran = subprocess.run(
        [sys.executable, "-c", code.replace("32", '6, "temperature": 0')],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    prompt = list(loaded.tokenizer("Once upon a time").input_ids)
    with target.serve(tmp_path, threads=1) as served:
        written = served.greedy(prompt, 6)
    text = loaded.tokenizer.decode(written, skip_special_tokens=True)
    assert ran.stdout.strip() == str(text).strip()
    assert text


def test_a_file_says_where_it_is_from(folder: Path) -> None:
    fields = GGUFReader(folder / MODEL_FILE).fields
    said = {name: field.contents() for name, field in fields.items()}
    assert said["general.name"] == "tiny-llama, pruned"
    assert "0123456789" in said["general.description"]
    assert said["general.license"] == "apache-2.0"
    # which lies on the hub, so that its own base is not ours
    assert said["general.base_model.count"] == 1
    assert said["general.base_model.0.name"] == "hub/tiny-llama"
    assert said["general.base_model.0.repo_url"] == "https://huggingface.co/hub/tiny-llama"
    assert (folder / "LICENSE").read_text() == "As is."


def test_a_reader_is_told_how_to_load_it_and_of_what_is_zero(
    tmp_path: Path, cut: CutLayers, loaded: LoadedModel
) -> None:
    written = GgufTarget("Q4_K_M").write(tmp_path, cut, loaded, None)
    assert "xllamacpp" in written.loading
    assert "`deci`" in written.loading
    proved, zeros, rows = written.notes
    assert "is it rounded to Q4_K_M and nothing else" in proved
    assert "where 3 layers have none" in zeros
    # five layers of 4 + 3 matrices, those of zeros among them
    assert rows.startswith("35 of 35 matrices have rows that 256 does not divide")


def test_a_type_is_that_on_disk_unless_it_is_asked_for(
    tmp_path: Path, cut: CutLayers, loaded: LoadedModel
) -> None:
    kinds = {}
    stored = (torch.float16, torch.bfloat16, torch.float64)
    for dtype in stored:
        of_dtype = replace(loaded, stored=StoredFormat(dtype=dtype))
        GgufTarget().write(tmp_path, cut, of_dtype, None)
        tensors = GGUFReader(tmp_path / MODEL_FILE).tensors
        kinds[dtype] = {each.name: each.tensor_type.name for each in tensors}[
            "blk.1.attn_q.weight"
        ]
    assert [kinds[dtype] for dtype in stored] == ["F16", "BF16", "F32"]


def test_parameters_are_counted_without_the_zeros(folder: Path, cut: CutLayers) -> None:
    model = cut.structure.backbone.model
    outside = (w for n, w in model.named_parameters() if not n.startswith("model.layers."))
    inside = (weight for layer in cut.layers for weight in layer.parameters())
    params = sum(weight.numel() for weight in (*outside, *inside))
    promised, stored = {"params": params}, 4 * params
    GgufTarget().check_size(folder, cut, promised, stored)
    with pytest.raises(
        VerificationError,
        match=f"{params + 1} parameters and {stored} bytes, got {params} and {stored}",
    ):
        GgufTarget().check_size(folder, cut, {"params": params + 1}, stored)
    with pytest.raises(VerificationError, match=f"{stored - 1} bytes, got {params} and {stored}"):
        GgufTarget().check_size(folder, cut, promised, stored - 1)
    # of another type than the plan's, bytes are that type's
    GgufTarget("F32").check_size(folder, cut, promised, 0)


def test_the_dense_model_is_written_to_be_compared_with(
    tmp_path: Path, loaded: LoadedModel
) -> None:
    structure, target, tokens = dense("llama"), GgufTarget("F32"), random_tokens()
    folder = target.dense_folder(tmp_path, structure, loaded)
    expected = run_layers(structure, structure.backbone.layers, tokens).numpy()
    with target.serve(folder, threads=1, exact=True) as served:
        gap = np.abs(served.logits(tokens.numpy()) - expected).max()
    assert gap < 0.01 * TOLERANCE * expected.std()


def test_a_target_is_made_again_from_its_choice() -> None:
    for target in (GgufTarget(), GgufTarget("Q8_0")):
        assert target.choice.make().choice == target.choice
        assert target.proof_variant.choice == GgufTarget("F32").choice
    assert "cyllama" in GgufTarget().runtime_version
    GgufTarget().check_installed()
    with pytest.raises(SettingsError, match="got `q8`"):
        GgufTarget("q8")


def test_what_cannot_be_held_leaves_nothing(tmp_path: Path, loaded: LoadedModel) -> None:
    structure = dense("opt")
    counts = [component.unit_count for component in structure.components]
    with pytest.raises(TargetError, match="this is `opt`; export with `--format hf`"):
        GgufTarget().write(tmp_path, carried_out(structure, counts), loaded, None)
    untied = carried_out(dense("qwen3"), VARIED["widths"])
    with pytest.raises(TargetError, match="different shapes"):
        GgufTarget().write(tmp_path, untied, loaded, None)
    assert not [*tmp_path.iterdir()]


def said_with_card(card: bytes, loaded: LoadedModel, folder: Path) -> dict[str, object]:
    """Write an export of a folder with a card, and return what its file says."""
    source, out = folder / "source", folder / "out"
    source.mkdir()
    out.mkdir()
    (source / "README.md").write_bytes(card)
    cut = carried_out(dense("llama"), UNIFORM["narrow"])
    GgufTarget().write(out, cut, replace(loaded, source=str(source)), source)
    fields = GGUFReader(out / MODEL_FILE).fields
    return {name: field.contents() for name, field in fields.items()}


def test_of_a_folder_the_card_says_what_it_was_made_from(
    tmp_path: Path, loaded: LoadedModel
) -> None:
    card = b"---\nlicense: other\nlicense_name: own\nbase_model: [a/b, c/d]\n---\n"
    said = said_with_card(card, loaded, tmp_path)
    assert said["general.name"] == "source, pruned"
    assert said["general.license.name"] == "own"
    assert said["general.base_model.0.repo_url"] == "https://huggingface.co/a/b"


def test_a_card_that_nobody_could_read_says_nothing(tmp_path: Path, loaded: LoadedModel) -> None:
    said = said_with_card(b"---\nlicense: [\n\xff---\n", loaded, tmp_path)
    assert not {"general.license", "general.base_model.0.name"} & set(said)
