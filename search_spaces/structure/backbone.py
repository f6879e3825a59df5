"""The road from token ids to logits: the layers, what comes before them and what after."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from search_spaces.errors import StructureError
from search_spaces.models.layer_stack import find_stack
from search_spaces.models.streaming import LayerStream
from search_spaces.structure.hooks import hooked


@dataclass(frozen=True)
class LayerCall:
    """What the model hands to one layer beside the hidden states."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class LayerInputs:
    """What enters the stack of layers for one batch of token ids."""

    hidden: Tensor
    """Hidden states before the first layer, ``(batch, tokens, hidden)``."""
    calls: tuple[LayerCall, ...]
    """One for each layer; they depend on the batch's shape and not on its tokens."""
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
        stream: What reads its layers from disk; none: they are in memory.

    Raises:
        StructureError: Where no stack of layers is found.
    """

    def __init__(self, model: PreTrainedModel, stream: LayerStream | None = None) -> None:
        self.model = model
        self.stack_path, self.layers = find_stack(model)
        self._stream = stream
        self.decoder = model.get_submodule(self.stack_path.rpartition(".")[0])
        self._tail, self._output = self._find_tail()

    def enter(self, input_ids: Tensor) -> LayerInputs:
        """Run a dense pass and note what each layer is handed.

        Args:
            input_ids: Token ids ``(batch, tokens)``, without padding.
        """
        calls: list[LayerCall] = []
        first: list[Tensor] = []

        def note(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            rest = dict(kwargs)
            hidden = args[0] if args else rest.pop("hidden_states")
            if not first:
                first.append(hidden)
            calls.append(LayerCall(args[1:], rest))

        hooks = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in self.layers]
        with hooked(hooks):
            final = self.decoder(input_ids=input_ids, use_cache=False).last_hidden_state
        if len(calls) != len(self.layers):
            raise StructureError(
                f"each layer of `{self.stack_path}` must run once in a forward pass, got "
                f"{len(calls)} runs of {len(self.layers)} layers; this model cannot be read"
            )
        return LayerInputs(first[0], tuple(calls), final)

    def embed(self, input_ids: Tensor) -> Tensor:
        """Give what enters the first layer, ``(batch, tokens, hidden)``, and run no layer."""

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
        """Give a layer whose weights are in memory for as long as the context lasts."""
        if self._stream is None:
            return nullcontext(self.layers[index])
        return self._stream.resident(index)

    def change_(self, index: int, change: Callable[[nn.Module], None]) -> None:
        """Alter the weights of a layer in place, wherever they are."""
        if self._stream is None:
            change(self.layers[index])
        else:
            self._stream.change_(index, change)

    def run_layer(self, layer: nn.Module, hidden: Tensor, call: LayerCall) -> Tensor:
        """Send hidden states ``(batch, tokens, hidden)`` through a layer, dense or narrow."""
        output = layer(hidden, *call.args, **call.kwargs)
        result = output[0] if isinstance(output, tuple) else output
        assert isinstance(result, Tensor)
        return result

    def leave(self, hidden: Tensor) -> Tensor:
        """Apply what comes between the last layer and the head, such as the final norm."""
        for module in self._tail:
            hidden = module(hidden)
        return hidden

    def logits(self, final: Tensor) -> Tensor:
        """Turn final hidden states ``(..., hidden)`` into logits ``(..., vocabulary)``.

        The model's own forward does it, so that its scaling and soft-capping apply.
        """
        flat = final.reshape(1, -1, final.shape[-1])
        output = type(self._output)(**{**self._output, "last_hidden_state": flat})
        with _standing_in(self.decoder, output):
            logits = self.model(input_ids=None, use_cache=False).logits
        assert isinstance(logits, Tensor)
        return logits.reshape(*final.shape[:-1], logits.shape[-1])

    def _find_tail(self) -> tuple[list[nn.Module], ModelOutput]:
        """Find the modules that run after the last layer, in order, and what they end in."""
        ran: list[nn.Module] = []
        watched = [child for child in self.decoder.children() if child is not self.layers] + [
            self.layers[-1]
        ]
        hooks = [
            child.register_forward_hook(lambda module, *_: ran.append(module)) for child in watched
        ]
        with hooked(hooks), torch.inference_mode():
            output = self.decoder(input_ids=probe_tokens(self.model), use_cache=False)
        return ran[ran.index(self.layers[-1]) + 1 :], output


def position_count(model: PreTrainedModel) -> int | None:
    """Give the number of tokens that a model reads at most; none where its config sets no end."""
    count: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return count


def probe_tokens(model: PreTrainedModel) -> Tensor:
    """Give a few different token ids ``(1, tokens)`` to learn a model's wiring with."""
    size = len(next(model.get_input_embeddings().parameters()))
    return torch.arange(8, device=model.device)[None] * 7 % size


def check_path(backbone: Backbone) -> None:
    """Prove that our own path from ids to logits computes what the model computes.

    Raises:
        StructureError: Where logits differ by more than 1e-3 of their spread.
    """
    tokens = probe_tokens(backbone.model)
    with torch.inference_mode():
        expected = backbone.model(input_ids=tokens, use_cache=False).logits.float()
        inputs = backbone.enter(tokens)
        hidden = inputs.hidden
        for layer, call in zip(backbone.layers, inputs.calls, strict=True):
            hidden = backbone.run_layer(layer, hidden, call)
        got = backbone.logits(backbone.leave(hidden)).float()
    gap = float((got - expected).abs().max())
    # the same operations in the same order: only a batched head may round differently
    allowed = 1e-3 * float(expected.std())
    if not gap <= allowed:
        raise StructureError(
            f"logits through the planner's own path must equal the model's within {allowed:.1e}, "
            f"got a difference of {gap:.1e} after `{backbone.stack_path}`; this model does "
            "something between its layers and its logits that the planner cannot follow"
        )


@contextmanager
def _standing_in(decoder: nn.Module, output: ModelOutput) -> Iterator[None]:
    """Let the decoder return a given output instead of running."""
    decoder.forward = lambda *_args, **_kwargs: output
    try:
        yield
    finally:
        del decoder.forward
