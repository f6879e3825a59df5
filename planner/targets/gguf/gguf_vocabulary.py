"""Tokenizers in GGUF files: pieces, merges, special tokens, and how text is split before.

llama.cpp knows ways to split text by name alone. Which of them a tokenizer's is, is found by
trying: the one whose tokens are the tokenizer's own, on text where they differ.
"""

import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from gguf import GGUFWriter, TokenType
from transformers import PreTrainedTokenizerBase

from planner.targets.gguf.gguf_runtime import tokenize
from search_spaces.errors import MissingExtraError, TargetError, VerificationError, quoted

_SPLITS = (
    "llama-bpe",
    "qwen2",
    "gpt-2",
    "smollm",
    "gpt-4o",
    "tekken",
    "deepseek-llm",
    "deepseek-v3",
    "deepseek-coder",
    "starcoder",
    "refact",
    "command-r",
    "falcon",
    "stablelm2",
    "olmo",
    "dbrx",
    "mpt",
    "smaug-bpe",
    "poro-chat",
    "chatglm-bpe",
    "glm4",
    "viking",
    "bloom",
    "gpt3-finnish",
    "exaone",
    "codeshell",
    "chameleon",
    "minerva-7b",
    "superbpe",
    "bailingmoe",
    "seed-coder",
    "hunyuan",
    "kimi-k2",
    "default",
)
"""Ways to split text before pairs are merged, the usual first; names of ``llama-vocab.cpp``."""
_PROBES = (
    "The quick brown fox, 2 dogs & 12345 hens aren't here; they've gone.  We'LL see!",
    "def f(x):\n    return x**2  # a comment\n\n\n\tif x == 1000000:\r\n\t\tpass\n \n  \n",
    "Ærø, naïve – «très bien»… ¿Qué? 3.14 3..3 1,000.00 x_1=y-2 a/b C:\\d http://e.org/?q=1",
    "Съешь ещё этих булок 今天天气很好。我有3个苹果 こんにちは 안녕 สวัสดี مرحبا שלום 🚀😶‍🌫️ é",
    "''''''```````\"\"\"\"......!!!!!!?????? I've 'told he'RE you'M 'D like ------======= a'lL",
    " leading",
    "trailing ",
    "two  spaces",
    "\n",
    "a",
    "",
)
_HIDDEN = 32
"""Of the model of zeros that a vocabulary is tried with."""
_SPECIAL = ("bos", "eos", "unk", "sep", "pad")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The tokens of a model as a GGUF file holds them."""

    model: Literal["gpt2", "llama"]
    """``gpt2``: merges of bytes, in their order; ``llama``: of characters, by their scores."""
    tokens: Sequence[str]
    types: Sequence[TokenType]
    merges: Sequence[str] = ()
    scores: Sequence[float] = ()
    split: str = "default"
    """How text is split before."""
    special: Mapping[str, int] = field(default_factory=dict)
    """Ids of ``bos``, ``eos`` and the like."""
    adds_bos: bool = False
    adds_eos: bool = False
    adds_space: bool = False
    """Whether text gets a space in front."""
    chat_template: str | None = None

    def write(self, writer: GGUFWriter) -> None:
        """Add it to the metadata of a file."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.split)
        writer.add_token_list(self.tokens)
        writer.add_token_types([int(each) for each in self.types])
        if self.scores:
            writer.add_token_scores(self.scores)
        if self.merges:
            writer.add_token_merges(self.merges)
        for name, number in self.special.items():
            getattr(writer, f"add_{name}_token_id")(number)
        writer.add_add_bos_token(self.adds_bos)
        writer.add_add_eos_token(self.adds_eos)
        writer.add_add_space_prefix(self.adds_space)
        if self.chat_template is not None:
            writer.add_chat_template(self.chat_template)


class _UnheldError(Exception):
    """Why llama.cpp has no such tokenizer."""


def vocabulary_of(tokenizer: PreTrainedTokenizerBase, size: int) -> Vocabulary:
    """Return a tokenizer as llama.cpp computes it.

    Args:
        tokenizer: Of the dense model.
        size: Rows of the embedding, which may be more than it has tokens.

    Raises:
        TargetError: If llama.cpp has no such tokenizer.
        MissingExtraError: If llama.cpp is not there to try it.
    """
    try:
        return _found(tokenizer, size)
    except _UnheldError as error:
        raise TargetError(f"{error}; export with `--format hf`") from error


def tokenizer_refusal(tokenizer: PreTrainedTokenizerBase, size: int) -> str:
    """Return why `vocabulary_of` has none; empty: it has, or llama.cpp is not there to try it."""
    try:
        with suppress(MissingExtraError):
            _found(tokenizer, size)
    except _UnheldError as error:
        return str(error)
    return ""


@functools.lru_cache(maxsize=1)
def _found(tokenizer: PreTrainedTokenizerBase, size: int) -> Vocabulary:
    """Return a tokenizer in the way of splitting that gives its own tokens."""
    described = _described(tokenizer)
    made = _unsplit(tokenizer, described, size)
    texts = [*_PROBES, _sample(tokenizer)]
    expected = [list(tokenizer(text).input_ids) for text in texts]
    with TemporaryDirectory() as folder:
        for candidate in _candidates(made):
            path = Path(folder, "vocabulary.gguf")
            write_zeros(path, candidate)
            try:
                found = tokenize(path, texts)
            except VerificationError:  # a way to split that the installed llama.cpp has not
                continue
            if found == expected:
                return candidate
    raise _UnheldError(
        "a tokenizer must be one that llama.cpp has, and with none of the ways in which that "
        f"splits text are tokens those of this {type(tokenizer).__name__}"
    )


def _described(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return what ``tokenizer.json`` holds."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described = None if backend is None else json.loads(backend.to_str())
    kind = type(tokenizer).__name__ if described is None else described["model"].get("type")
    if described is None or kind != "BPE":
        raise _UnheldError(
            "a tokenizer must merge pairs (BPE), as those of llama.cpp that are written here do, "
            f"and this is a {kind}"
        )
    return dict(described)


def _unsplit(
    tokenizer: PreTrainedTokenizerBase, described: Mapping[str, Any], size: int
) -> Vocabulary:
    """Return a vocabulary whose split is not known yet."""
    model = described["model"]
    pieces = {number: piece for piece, number in model["vocab"].items()}
    added = {each["id"]: each for each in described["added_tokens"]}
    if max(pieces | added) >= size:
        raise _UnheldError(
            f"a model must know all tokens of its tokenizer, and token {max(pieces | added)} has "
            f"no row among the {size} of its embedding"
        )
    pieces |= {number: each["content"] for number, each in added.items()}
    tokens = [pieces.get(number, f"[PAD{number}]") for number in range(size)]
    if repeated := next((text for text, count in Counter(tokens).items() if count > 1), None):
        raise _UnheldError(
            "each token must have a text of its own, as llama.cpp finds it by that, and "
            f"{quoted(repeated, 40)} is that of several"
        )
    kinds = [_type_of(number, pieces, added, model) for number in range(size)]
    merges = [each.split(" ") if isinstance(each, str) else each for each in model["merges"]]
    ends = list(tokenizer("a").input_ids)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    made = Vocabulary(
        model="gpt2",
        tokens=tokens,
        types=kinds,
        merges=[" ".join(part.replace(" ", "Ġ") for part in pair) for pair in merges],
        special=dict(_special_ids(tokenizer)),
        adds_bos=bos is not None and ends[:1] == [bos],
        adds_eos=eos is not None and ends[-1:] == [eos] and len(ends) > 1,
        chat_template=template,
    )
    if not model.get("byte_fallback"):
        return made
    if (count := kinds.count(TokenType.BYTE)) != 256:  # llama.cpp aborts where one is missing
        raise _UnheldError(
            "a tokenizer that falls back on bytes must have a token for each of the 256, as "
            f"llama.cpp does, and this has {count}"
        )
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(merges):
        ranks.setdefault("".join(pair), rank)
    scores = [-float(ranks.get(piece, len(merges))) for piece in tokens]
    return replace(made, model="llama", merges=(), scores=scores)


def _type_of(
    number: int,
    pieces: Mapping[int, str],
    added: Mapping[int, Mapping[str, Any]],
    model: Mapping[str, Any],
) -> TokenType:
    piece = pieces.get(number)
    if piece is None:
        return TokenType.UNUSED
    if piece == model.get("unk_token"):
        return TokenType.UNKNOWN
    if number in added:
        is_special = added[number]["special"]
        return TokenType.CONTROL if is_special else TokenType.USER_DEFINED
    is_byte = model.get("byte_fallback") and len(piece) == 6 and piece.startswith("<0x")
    return TokenType.BYTE if is_byte else TokenType.NORMAL


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[str, int]]:
    for name in _SPECIAL:
        number = getattr(tokenizer, f"{name}_token_id", None)
        if number is not None:
            yield name, int(number)


def _candidates(made: Vocabulary) -> Iterator[Vocabulary]:
    """Yield a vocabulary with each way to split text that llama.cpp knows."""
    if made.model == "llama":
        yield replace(made, adds_space=True)
        yield made
    else:
        for split in _SPLITS:
            yield replace(made, split=split)


def _sample(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return text with words from the whole vocabulary."""
    special = set(tokenizer.all_special_ids)
    count = len(tokenizer)
    ids = [each for each in range(0, count, max(1, count // 200)) if each not in special]
    text: Any = tokenizer.decode(ids)
    return str(text).replace("\ufffd", "")


def write_zeros(path: Path, vocabulary: Vocabulary) -> None:
    """Write the smallest model that has a vocabulary, for llama.cpp loads none alone."""
    writer = GGUFWriter(path, "llama")
    vocabulary.write(writer)
    writer.add_context_length(_HIDDEN)
    writer.add_embedding_length(_HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_HIDDEN)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    rows = np.zeros((len(vocabulary.tokens), _HIDDEN), np.float16)
    writer.add_tensor("token_embd.weight", rows)
    vectors = ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm")
    matrices = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    for name in vectors:
        writer.add_tensor(f"{name}.weight", np.zeros(_HIDDEN, np.float32))
    for name in matrices:
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((_HIDDEN, _HIDDEN), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
