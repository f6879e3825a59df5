"""The path from token ids to logits: embedding, layers, final norm and head."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from search_spaces.errors import StructureError
from search_spaces.models.layer_stack import find_stack
from search_spaces.models.streaming import LayerStream
from search_spaces.structure.graft import Given, Passed, Record, graft, hookable, shallow
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


class Backbone:
    """A causal language model taken apart into embedding, layers, tail and head.

    No method changes the model while it runs it, but for `change_` and `replaced`: threads may
    run one at a time as they like.

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
        self._decoder_path = self.stack.path.rpartition(".")[0]
        self.decoder = model.get_submodule(self._decoder_path)
        self._tail, self._output, self._returns_alone = self._find_tail()

    def enter(self, input_ids: Tensor) -> LayerInputs:
        """Run a dense pass and record the arguments of each layer.

        Args:
            input_ids: Token ids ``(batch, tokens)``, without padding.
        """
        calls: list[LayerCall] = []
        first: list[Tensor] = []
        record = _recorder(first, calls)
        watched = [hookable(layer) for layer in self.layers]
        for layer in watched:
            layer.register_forward_pre_hook(record, with_kwargs=True)
        final = self._run(input_ids, watched)
        self._check_calls(calls)
        return LayerInputs(input_ids, first[0], tuple(calls), final)

    def approach(self, input_ids: Tensor) -> tuple[Tensor, tuple[LayerCall, ...]]:
        """Return what `enter` finds before the first layer, without running one.

        Args:
            input_ids: Token ids ``(batch, tokens)``, without padding.

        Returns:
            Hidden states ``(batch, tokens, hidden)``, and the arguments of each layer.
        """
        calls: list[LayerCall] = []
        first: list[Tensor] = []
        record, alone = _recorder(first, calls), self._returns_alone
        passed = [Passed(each, returns_alone=alone, record=record) for each in self.layers]
        self._run(input_ids, passed)
        self._check_calls(calls)
        return first[0], tuple(calls)

    def embed(self, input_ids: Tensor) -> Tensor:
        """Return the first layer's input, ``(batch, tokens, hidden)``, without running a layer."""
        return self.approach(input_ids)[0]

    def _check_calls(self, calls: Sequence[LayerCall]) -> None:
        if len(calls) != len(self.layers):
            raise StructureError(
                f"each layer of `{self.stack.path}` must run once in a forward pass, got "
                f"{len(calls)} runs of {len(self.layers)} layers; this model cannot be read"
            )

    def _run(self, input_ids: Tensor, layers: Sequence[nn.Module]) -> Tensor:
        """Run a copy of the decoder with layers in the places of its own."""
        return self.final_of(input_ids, dict(zip(self.layer_paths, layers, strict=True)))

    def final_of(self, input_ids: Tensor, replacements: Mapping[str, nn.Module]) -> Tensor:
        """Return the final hidden states ``(batch, tokens, hidden)`` with some modules replaced.

        Args:
            input_ids: Token ids ``(batch, tokens)``.
            replacements: By their paths in the model, those that hold others before these.
        """
        model = graft(self.model, replacements)
        decoder = model.get_submodule(self._decoder_path)
        final = decoder(input_ids=input_ids, use_cache=False).last_hidden_state
        assert isinstance(final, Tensor)
        return final

    def holding(self, dense: nn.Parameter, own: nn.Parameter) -> Self:
        """Return the same model with a parameter in the place of another, which shares the rest.

        Args:
            dense: Of the model; tied ones are in two modules.
            own: What these modules hold in its place.
        """
        replacements: dict[str, nn.Module] = {}
        for path, module in self.model.named_modules():
            names = [name for name, held in module._parameters.items() if held is dense]
            if names:
                replacements[path] = shallow(module)
                replacements[path]._parameters.update(dict.fromkeys(names, own))
        other = copy.copy(self)
        other.__dict__.pop("linear_head", None)
        other.model = graft(self.model, replacements)
        other.decoder = other.model.get_submodule(self._decoder_path)
        return other

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
        model = graft(self.model, {self._decoder_path: Given(self.decoder, output)})
        logits = model(input_ids=None, use_cache=False).logits
        assert isinstance(logits, Tensor)
        return logits.reshape(*final.shape[:-1], logits.shape[-1])

    @cached_property
    def linear_head(self) -> LinearHead | None:
        """The formula of the logits; None: it is none that is known."""
        return linear_head(self.model, self.logits)

    def _find_tail(self) -> tuple[list[nn.Module], ModelOutput, bool]:
        """Find the modules that run after the last layer, in order, and the decoder's output.

        Whether a layer returns hidden states and nothing else is seen on the way.
        """
        ran: list[tuple[nn.Module, object]] = []
        watched = [
            child for child in self.decoder.children() if child is not self.stack.blocks
        ] + [self.layers[-1]]
        hooks = [
            child.register_forward_hook(lambda module, _, output: ran.append((module, output)))
            for child in watched
        ]
        with hooked(hooks), torch.inference_mode():
            output = self.decoder(input_ids=probe_tokens(self.model), use_cache=False)
        last = [module for module, _ in ran].index(self.layers[-1])
        tail = [module for module, _ in ran[last + 1 :]]
        return tail, output, isinstance(ran[last][1], Tensor)


def _recorder(first: list[Tensor], calls: list[LayerCall]) -> Record:
    """Return what takes down the first layer's input, and the other arguments of each layer."""

    def record(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rest = dict(kwargs)
        hidden = args[0] if args else rest.pop("hidden_states")
        if not first:
            first.append(hidden)
        calls.append(LayerCall(args[1:], rest))

    return record


def position_count(model: PreTrainedModel) -> int | None:
    """Return the largest number of tokens that a model reads; None: its config sets no limit."""
    count: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return count


def probe_tokens(model: PreTrainedModel) -> Tensor:
    """Return a few different token ids ``(1, tokens)`` to probe a model's wiring with."""
    size = len(next(model.get_input_embeddings().parameters()))
    return torch.arange(8, device=model.device)[None] * 7 % size
