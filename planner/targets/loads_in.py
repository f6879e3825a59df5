"""Where a model is to be loaded, as ``--loads_in`` names it, and what that holds of a model."""

from typing import assert_never

from transformers import PreTrainedTokenizerBase

from planner.settings.search import LoadsIn
from planner.targets.hf.native import native_holds, vllm_holds
from planner.targets.target_names import TargetChoice
from search_spaces.space.holds import HOLDS_ALL, Holds
from search_spaces.structure.model import ModelStructure


def holds_in(
    loads_in: LoadsIn,
    structure: ModelStructure,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Holds:
    """Return what can be held of a model where it is to be loaded.

    What each place holds is said by its target, which refuses plans by the same.

    Args:
        loads_in: The place.
        structure: Of the model.
        tokenizer: That is to be loaded with it; None: only the model is asked about.
    """
    match loads_in:
        case "any":
            return HOLDS_ALL
        case "transformers":
            return TargetChoice(name="hf").make().holds(structure)
        case "transformers-native":
            return native_holds(structure)
        case "vllm":
            return vllm_holds(structure)
        case "llama.cpp":
            return TargetChoice(name="gguf").make().holds(structure, tokenizer)
        case "onnx":
            return TargetChoice(name="onnx").make().holds(structure)
        case _:
            assert_never(loads_in)
