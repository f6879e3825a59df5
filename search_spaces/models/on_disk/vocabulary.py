"""Whether the tokenizer and the embedding of a model belong together."""

import logging
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from search_spaces.errors import ModelError, quoted

logger = logging.getLogger(__name__)


def embedding_rows(model: PreTrainedModel) -> int:
    """Return how many token ids a model knows: each is a row of its embedding."""
    embedding: Any = model.get_input_embeddings()
    return len(next(embedding.parameters()))


def check_vocabulary(
    name: str, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> None:
    """Refuse a tokenizer whose tokens the model does not know.

    All words of its vocabulary must be rows of the embedding, and so must added ones that text
    may hold by chance, and what it puts round every text. Special tokens beyond the embedding,
    such as the image's of a Gemma without pictures, are named once: text that holds one is
    refused when it is read.

    Raises:
        ModelError: If the largest id of these is beyond the embedding.
    """
    rows = embedding_rows(model)
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids = set(tokenizer.get_vocab().values())
    common = (ids - special) | set(tokenizer("")["input_ids"])
    if max(common, default=0) >= rows:
        raise ModelError(
            f"token ids must lie in the model's embedding, and the tokenizer of {quoted(name)} "
            f"has ids up to {max(common)} where the embedding has {rows} rows; get the tokenizer "
            "that belongs to the model, or resize its embedding"
        )
    if max(ids, default=0) >= rows:
        logger.info(
            "special tokens of the tokenizer have ids up to %d, beyond the %d rows of the "
            "embedding: text must not hold them",
            max(ids),
            rows,
        )
