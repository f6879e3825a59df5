"""What is timed, and what it takes; read where no torch is at hand."""

import statistics
from collections.abc import Sequence
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

_Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Latency(BaseModel):
    """Milliseconds that a model, or a part of one, takes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    prefill_ms: _Milliseconds
    """Reading the prompt."""
    decode_ms: _Milliseconds
    """Each further token, on average over the tokens that are written."""

    @classmethod
    def median(cls, latencies: Sequence[Self]) -> Self:
        """Return the median of each phase, which one slow turn does not move."""
        return cls(
            prefill_ms=statistics.median(latency.prefill_ms for latency in latencies),
            decode_ms=statistics.median(latency.decode_ms for latency in latencies),
        )


class Workload(BaseModel):
    """One request."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    batch_size: int = 1
    """Sequences that are run side by side."""
    prompt_tokens: int = 128
    """Tokens read, in each sequence."""
    new_tokens: int = 32
    """Tokens written, in each sequence."""

    def fitted(self, positions: int | None) -> Self:
        """Shorten the request to what a model has room for: the prompt first.

        Args:
            positions: Tokens that the model reads at most; None: any number.
        """
        request_tokens = self.prompt_tokens + self.new_tokens
        room = min(request_tokens, positions or request_tokens)
        new_tokens = min(self.new_tokens, room - 1)
        shortened = {"prompt_tokens": room - new_tokens, "new_tokens": new_tokens}
        return self.model_copy(update=shortened)

    def request_ms(self, latency: Latency) -> float:
        """Return the time of the whole request."""
        return latency.prefill_ms + self.new_tokens * latency.decode_ms

    def throughput(self, request_ms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the tokens written in a second; those read if the workload writes none."""
        tokens = self.batch_size * (self.new_tokens or self.prompt_tokens)
        return 1e3 * tokens / request_ms

    def __str__(self) -> str:
        return (
            f"batch {self.batch_size}, {self.prompt_tokens} tokens read, {self.new_tokens} written"
        )
