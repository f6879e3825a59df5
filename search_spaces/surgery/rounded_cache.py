"""Attention over keys and values as a runtime's cache keeps them: rounded to its number format."""

import inspect

from torch import Tensor, nn

from search_spaces.errors import SettingsError, StructureError
from search_spaces.pruned_weights.codecs import codec_of
from search_spaces.space.number_format import NumberFormat

_ARGUMENT = "past_key_values"
"""What transformers calls the cache that a layer is given."""


class RoundedCache:
    """Takes the place of a cache, and gives keys and values back as their format's bytes say.

    Args:
        number_format: Of the cache.
    """

    def __init__(self, number_format: NumberFormat) -> None:
        self._format = number_format
        self.was_asked = False
        """Whether an attention handed it something."""

    def update(
        self, keys: Tensor, values: Tensor, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Return keys and values ``(batch, heads, tokens, features)``, rounded.

        Raises:
            SettingsError: If their features are no whole blocks.
        """
        self.was_asked = True
        return self._rounded(keys), self._rounded(values)

    def get_seq_length(self, *_args: object) -> int:
        """Return how many tokens came before: none."""
        return 0

    def _rounded(self, states: Tensor) -> Tensor:
        features = states.shape[-1]
        if not self._format.fits(features):
            raise SettingsError(
                f"a cache in {self._format} needs heads of a multiple of {self._format.block} "
                f"features, and this model's have {features}; leave `cache` out of `--space`"
            )
        codec = codec_of(self._format)
        rows = states.detach().float().cpu().reshape(-1, features)
        stored = codec.decode(codec.encode(rows)).to(states).reshape(states.shape)
        # gradients pass as if nothing were rounded
        return states + (stored - states).detach()


class WithRoundedCache(nn.Module):
    """A layer whose attention reads keys and values from a cache in some number format.

    Args:
        layer: Is not changed.
        number_format: Of the cache.
    """

    def __init__(self, layer: nn.Module, number_format: NumberFormat) -> None:
        super().__init__()
        self._layer = layer
        self._format = number_format

    def forward(self, *args: object, **kwargs: object) -> object:
        cache = RoundedCache(self._format)
        signature = inspect.signature(self._layer.forward)
        if _ARGUMENT in signature.parameters:
            bound = signature.bind(*args, **kwargs)
            bound.arguments[_ARGUMENT] = cache
            args, kwargs = bound.args, bound.kwargs
        else:
            kwargs = {**kwargs, _ARGUMENT: cache}
        output = self._layer(*args, **kwargs)
        if not cache.was_asked:
            raise StructureError(
                "a number format of the cache needs an attention that hands its keys and values "
                f"to the cache that it is given, and {type(self._layer).__name__} does not; leave "
                "`cache` out of `--space`"
            )
        return output
