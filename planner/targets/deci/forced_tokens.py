"""Having vLLM write given tokens, whose logits are then those of one decoding step each."""

from collections.abc import Callable, Sequence

from torch import Tensor, full_like
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor


class ForcedTokens(AdapterLogitsProcessor):  # type: ignore[misc]  # of a package without types
    """Leaves one token to be written in each step, of the request's ``forced_tokens``."""

    def is_argmax_invariant(self) -> bool:
        return False

    def new_req_logits_processor(
        self, params: SamplingParams
    ) -> Callable[[Sequence[int], Tensor], Tensor] | None:
        forced: list[int] = (params.extra_args or {}).get("forced_tokens", [])
        return _forcing(forced) if forced else None


def _forcing(forced: Sequence[int]) -> Callable[[Sequence[int], Tensor], Tensor]:
    def force(written: Sequence[int], logits: Tensor) -> Tensor:
        if len(written) >= len(forced):
            return logits
        token = forced[len(written)]
        alone = full_like(logits, float("-inf"))
        alone[token] = logits[token]
        return alone

    return force
