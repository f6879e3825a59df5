"""The divergence that healing lowers: KL between a small model's predictions and a teacher's."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from evaluators.scoring.likelihood import gradient_by_final
from search_spaces.errors import ModelError
from search_spaces.models.memory import is_out_of_memory
from search_spaces.structure.backbone import Backbone

_POSITIONS_AT_ONCE = 128


class Teacher:
    """The dense model, whose final hidden states are kept as far as memory was given to them.

    They are a hundredth of its logits, and give them again exactly.

    Args:
        backbone: The dense model.
        cache_bytes: Most that is kept of windows that may come again.
    """

    def __init__(self, backbone: Backbone, cache_bytes: int = 2**30) -> None:
        self.backbone = backbone
        self._left = cache_bytes
        self._kept: dict[bytes, Tensor] = {}

    @torch.no_grad()
    def final(self, tokens: Tensor) -> Tensor:
        """Return final hidden states ``(windows, tokens, hidden)`` of token ids."""
        keys = [window.numpy().tobytes() for window in tokens.cpu()]
        missing = [row for row, key in enumerate(keys) if key not in self._kept]
        found: dict[bytes, Tensor] = {}
        if missing:
            device = self.backbone.model.device
            output = self.backbone.decoder(input_ids=tokens[missing].to(device), use_cache=False)
            found = dict(
                zip([keys[row] for row in missing], output.last_hidden_state, strict=True)
            )
            self._keep(found)
        return torch.stack([found[key] if key in found else self._kept[key] for key in keys])

    def _keep(self, states: dict[bytes, Tensor]) -> None:
        """Keep states while there is room; text comes round in turns, so the first stay."""
        for key, state in states.items():
            if state.nbytes <= self._left:
                self._kept[key] = state.clone()
                self._left -= state.nbytes


class Distillation:
    """Lowers the divergence of students from one teacher.

    Args:
        teacher: The dense model.
        reverse: Share of the reverse divergence, KL(student ‖ teacher), which shuns what the
            teacher finds unlikely; the rest is KL(teacher ‖ student), which covers all it finds
            likely. From 0 to 1.
        dtype: To multiply in; the weights that are trained stay in float32.
        windows_at_once: Windows that run together; fewer after memory runs out.

    References:
        Hinton et al., 2015, arXiv 1503.02531; Gu et al., 2024, arXiv 2306.08543 (reverse KL).
    """

    def __init__(
        self,
        teacher: Teacher,
        *,
        reverse: float = 0.0,
        dtype: torch.dtype = torch.float32,
        windows_at_once: int = 8,
    ) -> None:
        self.teacher = teacher
        self._reverse, self._dtype = reverse, dtype
        self._at_once = windows_at_once

    def backward(self, student: Backbone, tokens: Tensor) -> float:
        """Add the gradient of the mean divergence on some windows to that of the parameters.

        Args:
            student: The small model.
            tokens: Token ids ``(windows, tokens)``.

        Returns:
            The mean divergence in nats a token; not a finite number: no gradient was added.
        """
        total, done = 0.0, 0
        while done < len(tokens):
            part = tokens[done : done + self._at_once]
            try:
                total += self._backward_part(student, part, len(tokens))
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or self._at_once == 1:
                    raise
                # a part either adds its whole gradient or, while it runs forward, none
                self._at_once = (self._at_once + 1) // 2
                continue
            done += len(part)
        return total

    @torch.no_grad()
    def by_window(self, student: Backbone, tokens: Tensor) -> NDArray[np.float64]:
        """Return KL(teacher ‖ student) in each window ``(windows,)``, in nats a token."""
        values: list[float] = []
        for part in torch.split(tokens, self._at_once):
            with self._arithmetic(student):
                final = _final(student, part)
                teacher = self.teacher.final(part).to(final.device)
                for ours, theirs in zip(final[:, :-1], teacher[:, :-1], strict=True):
                    values.append(self._mean(student, ours, theirs))
        return np.array(values)

    def _mean(self, student: Backbone, ours: Tensor, theirs: Tensor) -> float:
        """Return the mean divergence of one window's positions ``(positions, hidden)``."""
        total = 0.0
        for start in range(0, len(ours), _POSITIONS_AT_ONCE):
            part = slice(start, start + _POSITIONS_AT_ONCE)
            logits = student.logits(ours[part]).float()
            total += float(_divergence(logits, self._teacher_logits(theirs[part]), 0.0))
        return total / len(ours)

    def _backward_part(self, student: Backbone, tokens: Tensor, windows: int) -> float:
        """Add the gradient of a part of so many windows, and return what it adds to the mean."""
        scale = 1.0 / (windows * (tokens.shape[1] - 1))
        total = 0.0
        with self._arithmetic(student):
            final = _final(student, tokens)
            rows = self.teacher.final(tokens).to(final.device)[:, :-1].flatten(0, 1)

            def loss(logits: Tensor, part: slice) -> Tensor:
                nonlocal total
                with torch.no_grad():
                    teacher = self._teacher_logits(rows[part])
                value = scale * _divergence(logits, teacher, self._reverse)
                total += float(value.detach())
                return value

            gradient = gradient_by_final(student.logits, final.detach(), loss)
        if np.isfinite(total):
            torch.autograd.backward(final, gradient)
        return total

    def _teacher_logits(self, rows: Tensor) -> Tensor:
        backbone = self.teacher.backbone
        return backbone.logits(rows.to(backbone.model.device)).float().to(rows.device)

    def _arithmetic(self, student: Backbone) -> AbstractContextManager[object]:
        """Let matrices be multiplied in the number format that was asked for."""
        return torch.autocast(
            student.model.device.type,
            dtype=torch.bfloat16,
            enabled=self._dtype == torch.bfloat16,
        )


def _final(student: Backbone, tokens: Tensor) -> Tensor:
    output = student.decoder(input_ids=tokens.to(student.model.device), use_cache=False)
    final = output.last_hidden_state
    assert isinstance(final, Tensor)
    return final


def _divergence(logits: Tensor, teacher: Tensor, reverse: float) -> Tensor:
    """Return the sum over positions of both divergences in their shares, of logits."""
    ours = functional.log_softmax(logits, dim=-1)
    theirs = functional.log_softmax(teacher, dim=-1)
    forward = functional.kl_div(ours, theirs, reduction="sum", log_target=True)
    if reverse == 0.0:
        return forward
    backward = functional.kl_div(theirs, ours, reduction="sum", log_target=True)
    return (1.0 - reverse) * forward + reverse * backward


def check_differentiable(
    distillation: Distillation, student: Backbone, tokens: Tensor, names: Sequence[str]
) -> None:
    """Refuse a model through which no gradient flows to what is to be trained.

    Args:
        distillation: Of the student.
        student: With parameters that ask for gradients; they have none afterwards.
        tokens: Token ids of one window or more.
        names: Of the parameters.

    Raises:
        ModelError: If it is one.
    """
    remedy = "recover it in closed form, `planner recover`"
    if not names:
        raise ModelError(
            f"healing needs weights to train, and none of these are in this model; {remedy}, or "
            "choose another `--train`"
        )
    try:
        distillation.backward(student, tokens[:1])
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0][:120]
        raise ModelError(
            f"healing needs a model that can be differentiated, and this one cannot ({reason}); "
            f"{remedy}"
        ) from error
    reached = [p for p in student.model.parameters() if p.grad is not None]
    for parameter in reached:
        parameter.grad = None
    if not reached:
        raise ModelError(
            "healing needs a model that can be differentiated, and no gradient reaches its "
            f"weights; {remedy}"
        )
