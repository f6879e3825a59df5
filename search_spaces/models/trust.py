"""What the files of a model may do: the one place that hands them to transformers.

Code of a folder, a tokenizer or a config runs only if the caller says `trust_remote_code`, which
comes from a command line and never from a file; a family that transformers holds is loaded as that
family, whatever code lies beside it. Weights are safetensors in the model's own folder.
"""

import copy
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto import configuration_auto
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from search_spaces.atomic_files import scratch_beside
from search_spaces.models.checks import absent_source, loading_failure, unknown_family, untrusted
from search_spaces.models.memory import is_out_of_memory
from search_spaces.models.on_disk.config_checks import (
    ask_for_logits_,
    blamed,
    check_generation,
    check_sizes,
    check_values,
)
from search_spaces.models.on_disk.plain_files import find_file, read_json
from search_spaces.models.on_disk.source_files import WeightFiles
from search_spaces.models.on_disk.tokenizer_checks import (
    damaged_tokenizer,
    is_refusal,
    missing_tokenizer,
)

logger = logging.getLogger(__name__)


def load_config(source: str, *, trust_remote_code: bool) -> PreTrainedConfig:
    """Load a config from a folder or a hub name.

    Raises:
        ModelError: If there is none, a field has a wrong value, or it needs code of its own that
            is not trusted.
    """
    raw = _read_config(source)
    is_known = raw["model_type"] in vars(configuration_auto)["CONFIG_MAPPING_NAMES"]
    has_code = "AutoConfig" in (raw.get("auto_map") or {})
    if not (is_known or has_code):
        raise unknown_family(source, raw["model_type"])
    if not (is_known or trust_remote_code):
        raise untrusted(source)
    if has_code and is_known and trust_remote_code:
        logger.info("its own code is left aside: transformers holds %s itself", raw["model_type"])
    load: Any = AutoConfig.from_pretrained
    try:
        config: PreTrainedConfig = load(
            source, trust_remote_code=trust_remote_code and not is_known
        )
    except Exception as error:
        if not is_known or is_out_of_memory(error):
            raise loading_failure(source, error) from error
        raise blamed(source, raw, _config_of) from error
    if is_known:
        vars(config).pop("auto_map", None)
    vars(config).pop("fusion_config", None)  # which would change classes for the whole process
    check_sizes(source, config)
    ask_for_logits_(config)
    return config


def _read_config(source: str) -> dict[str, Any]:
    try:
        file = find_file(source, "config.json")
    except Exception as error:  # the hub's client has no class of its own for what may go wrong
        raise absent_source(source, error) from error
    if file is None:
        raise absent_source(source)
    raw = read_json(file)
    check_values(source, raw)
    return raw


def _config_of(raw: dict[str, Any]) -> PreTrainedConfig:
    made: PreTrainedConfig = AutoConfig.for_model(**raw)
    return made


def load_tokenizer(
    source: str, *, trust_remote_code: bool, config: PreTrainedConfig | None = None
) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a folder or a hub name.

    Args:
        source: The folder or name.
        trust_remote_code: Run code that the tokenizer brings; else a class of transformers is
            taken, and the code is forgotten.
        config: Of its model, if that is loaded already.

    Raises:
        ModelError: If it is missing, damaged or needs code that is not trusted.
    """

    def load(place: str) -> Any:
        read: Any = AutoTokenizer.from_pretrained
        found = read(place, trust_remote_code=trust_remote_code, config=copy.deepcopy(config))
        found("")  # some wrong values fail no earlier
        return found

    try:
        tokenizer: PreTrainedTokenizerBase = load(source)
    except BaseException as error:  # tokenizers raises no class of its own over a bad file
        if not is_refusal(error):
            raise
        if not trust_remote_code and "trust_remote_code" in str(error):
            raise untrusted(source, "tokenizer") from error
        if is_out_of_memory(error):
            raise loading_failure(source, error) from error
        raise damaged_tokenizer(source, None if trust_remote_code else load) from error
    if missing := missing_tokenizer(source, type(tokenizer)):
        raise missing
    if not trust_remote_code:
        tokenizer.init_kwargs.pop("auto_map", None)
    return tokenizer


def make_empty(
    source: str, config: PreTrainedConfig, options: Mapping[str, Any], *, trust_remote_code: bool
) -> PreTrainedModel:
    """Make a causal language model without weights, on the ``meta`` device.

    Args:
        source: Where the config comes from.
        config: Of the model.
        options: Of transformers, such as ``attn_implementation``.
        trust_remote_code: Run the code that the config names.

    Raises:
        ModelError: If no model can be made of the config, by the field that is at fault.
    """
    load: Any = AutoModelForCausalLM.from_config

    def make(config: PreTrainedConfig) -> PreTrainedModel:
        with torch.device("meta"):
            made: PreTrainedModel = load(
                copy.deepcopy(config), trust_remote_code=trust_remote_code, **options
            )
        return made

    try:
        return make(config)
    except Exception as error:
        is_our_limit = "scaled_dot_product_attention" in str(error) or is_out_of_memory(error)
        if is_our_limit or hasattr(config, "auto_map"):
            raise loading_failure(source, error) from error
        raise blamed(source, _read_config(source), lambda raw: make(_config_of(raw))) from error


def load_weights(
    source: str,
    config: PreTrainedConfig,
    empty: PreTrainedModel,
    files: WeightFiles,
    options: Mapping[str, Any],
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load a model whole.

    transformers is shown these files alone: it would follow an adapter's config to another
    model, and read other formats of weights.

    Args:
        source: A folder or a hub name.
        config: Its config.
        empty: The model without weights, whose class is loaded.
        files: Its weights.
        options: For transformers.

    Returns:
        The model, and what transformers says of its keys.

    Raises:
        ModelError: If the weights cannot be loaded.
    """
    config = copy.deepcopy(config)
    vars(config).pop("transformers_weights", None)  # `files` are those
    own_code = hasattr(config, "auto_map")
    load: Any = (type(empty) if own_code else AutoModelForCausalLM).from_pretrained
    with _view(source, files) as folder:
        try:
            model, info = load(
                folder,
                config=config,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # `check_complete` reports them with the others
                output_loading_info=True,
                **options,
            )
        except Exception as error:
            raise loading_failure(source, error, config) from error
    model.config.name_or_path = model.name_or_path = source
    return model, info


def load_state(
    model_class: type[PreTrainedModel],
    config: PreTrainedConfig,
    weights: Mapping[str, Tensor],
    **options: Any,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load a model from weights in memory, as transformers loads them from files.

    Args:
        model_class: Of a model that is loaded already.
        config: Of the model; it is copied.
        weights: By the names that they have in memory.
        options: For transformers, such as ``dtype``.

    Returns:
        The model, and what transformers says of its keys.
    """
    load: Any = model_class.from_pretrained
    model, info = load(
        None,
        config=config,
        state_dict=weights,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **options,
    )
    model.config.name_or_path = model.name_or_path = config.name_or_path
    return model, info


@contextmanager
def _view(source: str, files: WeightFiles) -> Iterator[str]:
    """Make a folder that holds links to a model's weights and its generation config alone.

    The files get names of ours, for transformers takes some names as those of other formats.
    """
    generation = find_file(source, "generation_config.json")
    if generation is not None:
        check_generation(generation)
    with scratch_beside(Path(tempfile.gettempdir(), "planner-weights")) as place:
        numbered = {name: f"{index:05}.safetensors" for index, name in enumerate(files.files)}
        if files.shards is None:
            numbered = dict.fromkeys(files.files, SAFE_WEIGHTS_NAME)
        else:
            shards = {tensor: numbered[name] for tensor, name in files.shards.items()}
            index = json.dumps({"metadata": {}, "weight_map": shards})
            Path(place, SAFE_WEIGHTS_INDEX_NAME).write_text(index, encoding="utf-8")
        for name, path in files.files.items():
            Path(place, numbered[name]).symlink_to(path.absolute())
        if generation is not None:
            Path(place, generation.name).symlink_to(generation.absolute())
        yield str(place)


def load_as_client(
    folder: str, *, trust_remote_code: bool, **options: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load a folder that we wrote ourselves as those who get it would; see `load_weights`.

    Args:
        folder: The export.
        trust_remote_code: Whether it brings code of ours; a stock export loads without.
        options: Of transformers, such as ``dtype``.
    """
    load: Any = AutoModelForCausalLM.from_pretrained
    model, info = load(
        folder,
        trust_remote_code=trust_remote_code,
        use_safetensors=True,
        output_loading_info=True,
        **options,
    )
    return model, info


def load_gguf(path: Path, dtype: torch.dtype) -> tuple[Any, PreTrainedTokenizerBase]:
    """Load the model and the tokenizer of a GGUF file; what lies beside it is not looked at."""
    tokenize: Any = AutoTokenizer.from_pretrained
    load: Any = AutoModelForCausalLM.from_pretrained
    with scratch_beside(Path(tempfile.gettempdir(), "planner-gguf")) as place:
        Path(place, path.name).symlink_to(path.absolute())
        options = {"gguf_file": path.name, "trust_remote_code": False}
        tokenizer = tokenize(str(place), **options)
        model = load(str(place), dtype=dtype, **options)
    return model, tokenizer
