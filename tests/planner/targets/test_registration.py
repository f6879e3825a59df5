"""Exports whose code is ours load without trust where the planner is installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import planner
from planner.targets.bundled_code import DECILM, PRUNED
from search_spaces.errors import ModelError
from search_spaces.structure.model import ModelStructure
from tests import ROOT
from tests.models.families import FAMILIES, dense
from tests.planner.export.exports import Exported, assert_close

IN_A_FRESH_PROCESS = """
import sys, torch, planner
from safetensors.torch import load_file, save_file

folder, again, tokens = *sys.argv[1:3], load_file(sys.argv[3])["tokens"]
planner.register(folder)
families = {name.split(".")[2] for name in sys.modules if "transformers.models." in name}
assert not families & {"gpt2", "mistral", "opt"}, families

from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(folder)
assert AutoTokenizer.from_pretrained(folder)("w3 w95").input_ids == [3, 95]
model.save_pretrained(again)
with torch.inference_mode():
    logits = model(tokens).logits
    assert torch.equal(logits, AutoModelForCausalLM.from_pretrained(again)(tokens).logits)
    body = AutoModel.from_pretrained(folder)
    assert torch.equal(model.lm_head(body(tokens).last_hidden_state), logits)
save_file({"logits": logits}, again + "/logits.safetensors")
"""


def test_a_registered_export_loads_in_a_fresh_process_without_trust(
    custom: Exported, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    save_file({"tokens": custom.tokens}, tmp_path / "tokens")
    again = tmp_path / "again"
    command = [sys.executable, "-c", IN_A_FRESH_PROCESS, custom.folder, again, tmp_path / "tokens"]
    subprocess.run(
        list(map(str, command)), cwd=ROOT, check=True, stdin=subprocess.DEVNULL, timeout=300
    )
    assert_close(load_file(again / "logits.safetensors")["logits"], custom.expected)
    assert (again / PRUNED.file).read_text() == (custom.folder / PRUNED.file).read_text()


def test_code_that_was_changed_is_not_run(custom: Exported, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(custom.folder, tmp_path / "changed"))
    mark = tmp_path / "ran"
    with (folder / PRUNED.file).open("a") as code:
        code.write(f"\nopen({str(mark)!r}, 'w')\n")
    with pytest.raises(ModelError, match="it was changed, or is of another version"):
        planner.register(folder)
    with pytest.raises(ValueError, match="trust_remote_code"):
        AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
    assert not mark.exists()


def test_a_class_of_another_place_is_not_let_in_as_a_family() -> None:
    """Only names stand where the family's are: nothing that could be called."""
    code = PRUNED.of_family(dense("llama").backbone.model)
    name = "LlamaConfig as StockConfig"
    assert PRUNED.is_this(code.replace(name, "OPTConfig as StockConfig"))
    for other in ("LlamaConfig, x as StockConfig", "LlamaConfig as StockConfig; x = 1"):
        assert not PRUNED.is_this(code.replace(name, other))
    assert not PRUNED.is_this(
        code.replace("from transformers import Llama", "from x import Llama")
    )
    assert not DECILM.is_this(code)


@pytest.mark.parametrize("name", FAMILIES)
def test_code_of_every_family_is_known(name: str) -> None:
    model = dense(name).backbone.model
    assert PRUNED.is_this(PRUNED.of_family(model))
    assert type(model).__name__ in PRUNED.of_family(model)


def test_a_stock_export_needs_no_registration(stock: Exported) -> None:
    planner.register(stock.folder)
    AutoModelForCausalLM.from_pretrained(stock.folder, trust_remote_code=False)


def test_a_folder_without_a_model_is_refused(tmp_path: Path, llama: ModelStructure) -> None:
    with pytest.raises(ModelError, match=r"must be a folder with a config\.json"):
        planner.register(tmp_path)
