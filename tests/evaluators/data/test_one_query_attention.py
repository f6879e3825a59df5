"""Attention of a single query by matrix products, held against torch's own."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from evaluators.data import one_query_attention
from evaluators.data.one_query_attention import OneQueryAttention
from tests.models import tiny


def states(queries: int = 1, *, key_heads: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of three windows and six heads, seven tokens before."""
    made = torch.Generator().manual_seed(0)
    shapes = ((3, 6, queries, 8), (3, key_heads, 7, 8), (3, key_heads, 7, 8))
    query, key, value = (torch.randn(shape, generator=made) for shape in shapes)
    return query, key, value


@pytest.mark.parametrize(
    ("queries", "key_heads", "options"),
    [
        (1, 6, {}),
        (1, 2, {"enable_gqa": True}),
        (1, 6, {"scale": 0.7}),
        (1, 6, {"attn_mask": torch.rand(3, 1, 1, 7) < 0.6}),
        (1, 2, {"attn_mask": torch.randn(3, 1, 1, 7), "enable_gqa": True}),
        # left to torch
        (1, 6, {"attn_mask": torch.randn(3, 6, 1, 7)}),
        (1, 6, {"is_causal": True}),
        (4, 6, {"is_causal": True}),
        (4, 2, {"enable_gqa": True}),
    ],
)
def test_it_gives_what_torch_gives(queries: int, key_heads: int, options: dict[str, Any]) -> None:
    query, key, value = states(queries, key_heads=key_heads)
    if "attn_mask" in options and options["attn_mask"].dtype == torch.bool:
        options["attn_mask"][..., 0] = True  # a query that sees nothing has no answer
    expected = scaled_dot_product_attention(query, key, value, **options)
    with OneQueryAttention():
        found = scaled_dot_product_attention(query, key, value, **options)
    torch.testing.assert_close(found, expected)


class _Calls(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self, func: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += func is scaled_dot_product_attention
        return func(*args, **(kwargs or {}))


def test_one_query_is_not_left_to_torch() -> None:
    with _Calls() as outside:
        for queries, left in ((1, 0), (4, 1)):
            with OneQueryAttention():
                scaled_dot_product_attention(*states(queries, key_heads=6))
            assert outside.count == left


def test_a_model_with_a_cache_attends_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.llama(layers=2).backbone.model
    tokens = torch.arange(3, 15)[None]
    expected = model(tokens, use_cache=False).logits[:, -1]
    one, asked = one_query_attention._attention, []

    def counted(*args: Any, **options: Any) -> Tensor:
        asked.append(args[0].shape)
        return one(*args, **options)

    monkeypatch.setattr(one_query_attention, "_attention", counted)
    cache = model(tokens[:, :-1], use_cache=True).past_key_values
    with OneQueryAttention():
        found = model(tokens[:, -1:], past_key_values=cache, use_cache=True).logits[:, -1]
    assert [shape[2] for shape in asked] == [1, 1]
    torch.testing.assert_close(found, expected)
