"""The bytes of number formats: one codec for each kind."""

from search_spaces.pruned_weights.codecs.gguf_blocks import GgufBlocks
from search_spaces.pruned_weights.codecs.integer_groups import IntegerGroups
from search_spaces.pruned_weights.codecs.protocol import Codec
from search_spaces.space.number_format import INTEGERS, NumberFormat


def codec_of(number_format: NumberFormat) -> Codec:
    """Return the codec of a number format."""
    if number_format in INTEGERS:
        return IntegerGroups(number_format)
    return GgufBlocks(number_format)
