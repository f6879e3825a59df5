"""Small tokenizers that merge pairs, as those that llama.cpp knows do."""

from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

CHAT_TEMPLATE = "{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}"
_SPECIAL = ("<pad>", "<s>", "</s>")
_LETTERS = "Ġabcdefghijklmnopqrstuvwxyz.,!?'0123456789Ċ"
_MERGES = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("e", "r"), ("Ġ", "a"), ("1", "2")]
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def of_bytes(*, digits_apart: bool = False) -> PreTrainedTokenizerBase:
    """Merge bytes, as GPT-2 does.

    Args:
        digits_apart: Whether each digit is a word, as in SmolLM.
    """
    pieces = [*_SPECIAL, *_LETTERS, *("".join(pair) for pair in _MERGES)]
    tokenizer = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, _MERGES))
    split = [
        *([pre_tokenizers.Digits(individual_digits=True)] if digits_apart else []),
        pre_tokenizers.Split(Regex(_GPT2), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    tokenizer.decoder = decoders.ByteLevel()
    return _finished(tokenizer)


def of_characters(*, byte_count: int = 256) -> PreTrainedTokenizerBase:
    """Merge characters with bytes for all others, as Llama 2 does; a ``<s>`` comes first.

    Args:
        byte_count: How many of the bytes are tokens.
    """
    letters = [letter.replace("Ġ", "▁") for letter in _LETTERS if letter != "Ċ"]
    merges = [(left.replace("Ġ", "▁"), right) for left, right in _MERGES]
    pieces = ["<unk>", "<s>", "</s>", "<pad>"]
    pieces += [f"<0x{code:02X}>" for code in range(byte_count)]
    pieces += [*("".join(pair) for pair in merges), *letters]
    model = models.BPE(
        {piece: number for number, piece in enumerate(pieces)},
        merges,
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return _finished(tokenizer, unk_token="<unk>")


def _finished(tokenizer: Tokenizer, **options: str) -> PreTrainedTokenizerBase:
    make: Any = PreTrainedTokenizerFast
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in _SPECIAL])
    made: PreTrainedTokenizerBase = make(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=CHAT_TEMPLATE,
        **options,
    )
    return made
