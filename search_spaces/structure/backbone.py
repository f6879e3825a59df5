"""The path from token ids to logits: embedding, layers, final norm and head."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from search_spaces.errors import ModelError, StructureError
from search_spaces.models.layer_stack import find_stack
from search_spaces.models.streaming import LayerStream
from search_spaces.structure.head import LinearHead, linear_head
from search_spaces.structure.hooks import hooked


@dataclass(frozen=True)
class LayerCall:
    """Arguments that the model passes to one layer besides the hidden states."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class LayerInputs:
    """Inputs of the stack of layers for one batch of token ids."""

    tokens: Tensor
    """Token ids ``(batch, tokens)``."""
    hidden: Tensor
    """Hidden states before the first layer, ``(batch, tokens, hidden)``."""
    calls: tuple[LayerCall, ...]
    """One for each layer; they depend on the batch's shape, not on its tokens."""
    final: Tensor
    """Hidden states of the dense model after the final norm, ``(batch, tokens, hidden)``."""


class _Entered(Exception):  # noqa: N818 - not an error: it ends a pass
    """The first layer is about to run."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


class Backbone:
    """A causal language model taken apart into embedding, layers, tail and head.

    Args:
        model: Any HuggingFace causal language model, in evaluation mode.
        stream: Reads its layers from disk; None: they are in memory.

    Raises:
        StructureError: If no stack of layers is found.
    """

    def __init__(self, model: PreTrainedModel, stream: LayerStream | None = None) -> None:
        self.model = model
        self.stack = find_stack(model)
        self.layers = tuple(self.stack.layers.values())
        self.layer_paths = tuple(self.stack.layers)
        self._stream = stream
        self.decoder = model.get_submodule(self.stack.path.rpartition(".")[0])
        self._tail, self._output = self._find_tail()

    def enter(self, input_ids: Tensor) -> LayerInputs:
        """Run a dense pass and record the arguments of each layer.

        Args:
            input_ids: Token ids ``(batch, tokens)``, without padding.
        """
        calls: list[LayerCall] = []
        first: list[Tensor] = []

        def record(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            rest = dict(kwargs)
            hidden = args[0] if args else rest.pop("hidden_states")
            if not first:
                first.append(hidden)
            calls.append(LayerCall(args[1:], rest))

        hooks = [
            layer.register_forward_pre_hook(record, with_kwargs=True) for layer in self.layers
        ]
        with hooked(hooks):
            final = self.decoder(input_ids=input_ids, use_cache=False).last_hidden_state
        if len(calls) != len(self.layers):
            raise StructureError(
                f"each layer of `{self.stack.path}` must run once in a forward pass, got "
                f"{len(calls)} runs of {len(self.layers)} layers; this model cannot be read"
            )
        return LayerInputs(input_ids, first[0], tuple(calls), final)

    def embed(self, input_ids: Tensor) -> Tensor:
        """Return the first layer's input, ``(batch, tokens, hidden)``, without running a layer."""

        def stop(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            raise _Entered(args[0] if args else kwargs["hidden_states"])

        # before the layer's own hooks, so that a streamed one is not read
        hook = self.layers[0].register_forward_pre_hook(stop, with_kwargs=True, prepend=True)
        try:
            with hook:
                self.decoder(input_ids=input_ids, use_cache=False)
        except _Entered as entered:
            return entered.hidden
        raise AssertionError("a model whose layers were seen to run has run none")

    @property
    def streamed(self) -> bool:
        """Whether a layer's weights are in memory only while it is used."""
        return self._stream is not None

    def resident(self, index: int) -> AbstractContextManager[nn.Module]:
        """Return a context in which a layer's weights are in memory; it yields the layer."""
        if self._stream is None:
            return nullcontext(self.layers[index])
        return self._stream.resident(index)

    def change_(self, index: int, change: Callable[[nn.Module], None]) -> None:
        """Change the weights of a layer in place, in memory or after each read from disk."""
        if self._stream is None:
            change(self.layers[index])
        else:
            self._stream.change_(index, change)

    def run_layer(self, layer: nn.Module, hidden: Tensor, call: LayerCall) -> Tensor:
        """Run hidden states ``(batch, tokens, hidden)`` through a layer, dense or narrow.

        Raises:
            StructureError: If the layer does not return hidden states first.
        """
        output = layer(hidden, *call.args, **call.kwargs)
        result = output[0] if isinstance(output, tuple | list) and output else output
        if not isinstance(result, Tensor):
            raise StructureError(
                "a layer must return its hidden states, alone or first, got "
                f"{type(result).__name__} from `{self.stack.path}`; this architecture is not read"
            )
        return result

    @contextmanager
    def replaced(self, layers: Sequence[nn.Module]) -> Iterator[None]:
        """Let the model run other layers inside a block, each in the place of one of its own."""
        for path, layer in zip(self.layer_paths, layers, strict=True):
            self.model.set_submodule(path, layer)
        try:
            yield
        finally:
            for path, layer in zip(self.layer_paths, self.layers, strict=True):
                self.model.set_submodule(path, layer)

    def leave(self, hidden: Tensor) -> Tensor:
        """Apply the modules between the last layer and the head, such as the final norm."""
        for module in self._tail:
            hidden = module(hidden)
        return hidden

    def logits(self, final: Tensor) -> Tensor:
        """Return the logits ``(..., vocabulary)`` of final hidden states ``(..., hidden)``.

        The model's own forward computes them, so that its scaling and soft-capping apply.
        """
        flat = final.reshape(1, -1, final.shape[-1])
        output = type(self._output)(**{**self._output, "last_hidden_state": flat})
        with _returning(self.decoder, output):
            logits = self.model(input_ids=None, use_cache=False).logits
        assert isinstance(logits, Tensor)
        return logits.reshape(*final.shape[:-1], logits.shape[-1])

    @cached_property
    def linear_head(self) -> LinearHead | None:
        """The formula of the logits; None: it is none that is known."""
        return linear_head(self.model, self.logits)

    def _find_tail(self) -> tuple[list[nn.Module], ModelOutput]:
        """Find the modules that run after the last layer, in order, and the decoder's output."""
        ran: list[nn.Module] = []
        watched = [
            child for child in self.decoder.children() if child is not self.stack.blocks
        ] + [self.layers[-1]]
        hooks = [
            child.register_forward_hook(lambda module, *_: ran.append(module)) for child in watched
        ]
        with hooked(hooks), torch.inference_mode():
            output = self.decoder(input_ids=probe_tokens(self.model), use_cache=False)
        return ran[ran.index(self.layers[-1]) + 1 :], output


def position_count(model: PreTrainedModel) -> int | None:
    """Return the largest number of tokens that a model reads; None: its config sets no limit."""
    count: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return count


def probe_tokens(model: PreTrainedModel) -> Tensor:
    """Return a few different token ids ``(1, tokens)`` to probe a model's wiring with."""
    size = len(next(model.get_input_embeddings().parameters()))
    return torch.arange(8, device=model.device)[None] * 7 % size


def check_path(backbone: Backbone) -> None:
    """Check that the path layer by layer computes the model's logits.

    Raises:
        ModelError: If the model's logits are not finite, or all alike.
        StructureError: If logits differ by more than 1e-3 of their spread.
    """
    tokens = probe_tokens(backbone.model)
    with torch.inference_mode():
        expected = backbone.model(input_ids=tokens, use_cache=False).logits.float()
        _check_logits(expected, backbone.model.dtype)
        inputs = backbone.enter(tokens)
        hidden = inputs.hidden
        for layer, call in zip(backbone.layers, inputs.calls, strict=True):
            hidden = backbone.run_layer(layer, hidden, call)
        actual = backbone.logits(backbone.leave(hidden)).float()
    gap = float((actual - expected).abs().max())
    # the same operations in the same order: only a batched head may round differently
    allowed = 1e-3 * float(expected.std())
    if not gap <= allowed:
        raise StructureError(
            f"logits through the planner's own path must equal the model's within {allowed:.1e}, "
            f"got a difference of {gap:.1e} after `{backbone.stack.path}`; this model does "
            "something between its layers and its logits that the planner cannot follow"
        )


def check_cache(model: PreTrainedModel) -> None:
    """Check that the model computes the same with a cache as without, as each export must.

    Raises:
        ModelError: If the model's logits are not finite, or all alike.
        StructureError: If it does not.
    """
    count = min(48, position_count(model) or 48)
    size = len(next(model.get_input_embeddings().parameters()))
    tokens = torch.arange(2 * count, device=model.device).view(2, count) * 7 % size
    with torch.inference_mode():
        expected = model(input_ids=tokens, use_cache=False).logits.float()
        _check_logits(expected, model.dtype)
        cached = logits_with_cache(model, tokens, 2).float()
    expected = expected[:, -cached.shape[1] :]
    # over the vocabulary, whose largest difference is rounding alone in a half precision; most
    # tokens must agree, not all: rounding may lead a router to another expert
    gap = float((cached - expected).square().mean(dim=-1).sqrt().median())
    allowed = (1e-3 if model.dtype == torch.float32 else 0.1) * float(expected.std())
    if not gap <= allowed:
        raise StructureError(
            f"a model must compute the same with a cache as without, within {allowed:.1e}, and "
            f"{type(model).__name__} differs by {gap:.1e}; its exports could not be proved"
        )


def logits_with_cache(model: PreTrainedModel, tokens: Tensor, count: int = 4) -> Tensor:
    """Return the logits of the last tokens, each fed by itself after a cached prompt.

    Args:
        model: The model.
        tokens: Token ids ``(batch, tokens)``.
        count: How many tokens to feed so, each of which is a forward pass.

    Returns:
        ``(batch, last tokens, vocabulary)``
    """
    start = max(1, tokens.shape[1] - count)
    output = model(tokens[:, :start], use_cache=True)
    logits = []
    for position in range(start, tokens.shape[1]):
        output = model(
            tokens[:, position : position + 1],
            past_key_values=output.past_key_values,
            use_cache=True,
        )
        logits.append(output.logits)
    return torch.cat(logits, dim=1)


def _check_logits(logits: Tensor, dtype: torch.dtype) -> None:
    """Refuse a dense model that predicts nothing, from which no candidate could differ."""
    place = f"in {str(dtype).removeprefix('torch.')}"
    remedy = "get a sound checkpoint"
    if dtype != torch.float32:
        remedy += ", or set `--dtype float32`"
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(
            f"a model's logits must be finite, and {place} they are not: weights or hidden states "
            f"overflow; {remedy}"
        )
    if bool((logits.amin(dim=-1) == logits.amax(dim=-1)).all()):
        raise ModelError(
            f"a model's logits must differ from token to token, and {place} all are alike: its "
            f"embedding, last norm or head vanishes or overflows; {remedy}"
        )


@contextmanager
def _returning(decoder: nn.Module, output: ModelOutput) -> Iterator[None]:
    """Let the decoder return a given output instead of running."""
    decoder.forward = lambda *_args, **_kwargs: output
    try:
        yield
    finally:
        del decoder.forward
