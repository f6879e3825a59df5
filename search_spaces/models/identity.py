"""The identity of a model, which plans and run folders are checked against."""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

Verify = Literal["sample", "full"]
"""How weights are compared with those of a run: by sampled values and sums of all, or by a
cryptographic digest of all."""

_WITHOUT_EFFECT = frozenset(
    [
        "architectures",
        "attn_implementation",
        "auto_map",
        "base_model_name",
        "chunk_size_feed_forward",
        "dtype",
        "experts_implementation",
        "finetuning_task",
        "gradient_checkpointing",
        "id2label",
        "label2id",
        "model_type",
        "name_or_path",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "pad_token_id",
        "prefix",
        "problem_type",
        "return_dict",
        "router_aux_loss_coef",
        "router_z_loss_coef",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
        "task_specific_params",
        "tokenizer_class",
        "torch_dtype",
        "torchscript",
        "transformers_version",
        "transformers_weights",
        "use_cache",
    ]
)
"""Keys of configs that no logit depends on; private ones, dropout and initialisation besides."""
_WEIGHTS = dict.fromkeys(("fingerprint", "checksum", "digest"), "its weights")
_LONGEST_VALUE = 32


class ModelIdentity(BaseModel):
    """Identity of a dense model, which a plan holds: its weights and its config."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    architecture: str
    """The model's class name."""
    fingerprint: str
    """Hash of its weights' names, shapes and a sample of their values."""
    params: int
    """Number of parameters, tied ones once."""
    config: dict[str, JsonValue] = {}
    """What it computes with, by dotted keys of its config; empty: not recorded."""
    transformers: str = ""
    """Version that read the config."""


class SourceIdentity(ModelIdentity):
    """Identity of all files of a dense model, which a run holds."""

    checksum: str = ""
    """Hash of sums over all bytes of its weights."""
    digest: str = ""
    """SHA-256 of all its weights; empty: nobody asked for it."""
    generation: dict[str, JsonValue] = {}
    """Its generation config."""
    tokenizer: str = ""
    """Hash of all that its tokenizer does."""
    code: str = ""
    """Hash of Python code that came with it and was trusted; empty: it is of transformers."""
    vocabulary: str = ""
    """Hash of its tokens with their ids, and of its special tokens."""


def computing_values(config: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Return the values of a config that may change what its model computes, by dotted keys.

    >>> computing_values({"rope": {"theta": 1e4}, "use_cache": True, "attention_dropout": 0.1})
    {'rope.theta': 10000.0}
    """
    # what JSON has no number for, such as infinity, is kept as its name
    plain = json.loads(json.dumps(dict(config), default=str), parse_constant=str)
    return dict(_flat(plain, ""))


def _flat(values: Mapping[str, JsonValue], prefix: str) -> Iterator[tuple[str, JsonValue]]:
    for key, value in sorted(values.items()):
        is_for_training = any(word in key for word in ("dropout", "pdrop", "aux_loss", "z_loss"))
        if key in _WITHOUT_EFFECT or key.startswith(("_", "init")) or is_for_training:
            continue
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def difference(before: ModelIdentity, now: ModelIdentity, since: str) -> str:
    """Name what changed of a model, as far as both identities record it; empty: nothing.

    Args:
        before: As a plan or a run recorded it.
        now: As it is.
        since: What the record was made for.

    >>> old = ModelIdentity(architecture="A", fingerprint="f", params=1, config={"eps": 1e-5})
    >>> new = old.model_copy(update={"config": {"eps": 0.1}})
    >>> difference(old, new, "the search")
    'config.json changed since the search: eps 1e-05 → 0.1'
    >>> difference(old, new.model_copy(update={"architecture": "B"}), "the search")
    'this is another model: architecture B, not A'
    """
    for name in ("architecture", "params"):
        if getattr(before, name) != getattr(now, name):
            return (
                f"this is another model: {name} {getattr(now, name)!s:.{_LONGEST_VALUE}}, not "
                f"{getattr(before, name)!s:.{_LONGEST_VALUE}}"
            )
    changes = list(_changes(before, now))
    if not changes:
        return ""
    (part, change), *others = changes
    more = f", and {len(others)} more" if others else ""
    return f"{part} changed since {since}: {change}{more}"


def _changes(before: ModelIdentity, now: ModelIdentity) -> Iterator[tuple[str, str]]:
    """Yield what changed: the part of the model, and how."""
    yield from islice(_changed_marks(before, now, _WEIGHTS), 1)
    yield from _changed_marks(before, now, {"code": "its code"})
    same_reader = before.transformers == now.transformers
    yield from _changed_values("config.json", before.config, now.config, same_reader=same_reader)
    # another version of the libraries may write down the same tokenizer in another way
    name = "tokenizer" if same_reader else "vocabulary"
    yield from _changed_marks(before, now, {name: "its tokenizer"})
    generations = (getattr(identity, "generation", {}) for identity in (before, now))
    yield from _changed_values("generation_config.json", *generations, same_reader=same_reader)


def _changed_marks(
    before: ModelIdentity, now: ModelIdentity, parts: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    for name, part in parts.items():
        marks = [str(getattr(identity, name, "")) for identity in (before, now)]
        if all(marks) and marks[0] != marks[1]:
            yield part, f"{name} {marks[0][:_LONGEST_VALUE]} → {marks[1][:_LONGEST_VALUE]}"


def _changed_values(
    file: str,
    before: Mapping[str, JsonValue],
    now: Mapping[str, JsonValue],
    *,
    same_reader: bool,
) -> Iterator[tuple[str, str]]:
    """Yield the values that changed; keys that another version does not know are left out."""
    if not before or not now:
        return
    keys = before.keys() | now.keys() if same_reader else before.keys() & now.keys()
    for key in sorted(keys):
        if before.get(key) != now.get(key):
            name = key.rpartition(".")[2][:_LONGEST_VALUE]
            yield file, f"{name} {_shown(before.get(key))} → {_shown(now.get(key))}"


def _shown(value: JsonValue) -> str:
    text = f"{value:.15g}" if isinstance(value, float) else json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
