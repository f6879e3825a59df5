"""What later columns of a matrix take over of an error in an earlier one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from search_spaces.linalg import DAMPING, damped_cholesky, dead_inputs


@dataclass(frozen=True, kw_only=True)
class ErrorFeedback:
    """How columns compensate for those before them, of their second moments ``H``.

    With ``U`` the upper factor of the damped inverse, ``H⁻¹ = Uᵀ U``, of the weights from column
    ``j`` on an error of 1 in column ``j`` costs ``1 / U_jj²`` once those behind it have made up
    for it, for which each of them loses ``U_jk / U_jj``.
    """

    gram: Tensor
    """``H``, which must not be changed in place."""
    updates: Tensor
    """``U_jk / U_jj``, ``(columns, columns)`` in float32."""
    importance: Tensor
    """``1 / U_jj²``, 0 for inputs that were always zero, ``(columns,)`` in float32."""

    @classmethod
    def of(cls, gram: Tensor, method: str) -> "ErrorFeedback":
        """Factorise second moments ``(columns, columns)``, damped by 1 % of their mean diagonal.

        Args:
            gram: Of the inputs.
            method: Name of the method, for messages.

        Raises:
            DataError: If they hold numbers that are not finite.
        """
        # H = R Rᵀ with R = U⁻¹ upper: the usual factor of H with its columns in reverse
        lower = damped_cholesky(gram.flip(0, 1), DAMPING, method)
        identity = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
        inverse = torch.linalg.solve_triangular(lower, identity, upper=False)
        upper = inverse.flip(0, 1)
        diagonal = upper.diagonal()
        importance = diagonal.square().reciprocal().masked_fill(dead_inputs(gram), 0.0)
        updates = upper / diagonal[:, None]
        return cls(gram=gram, updates=updates.float(), importance=importance.float())


class LastFeedback:
    """The feedback of the last second moments, kept for what else is made of the same matrix.

    They are known by the tensor itself.
    """

    def __init__(self, method: str) -> None:
        self._method = method
        self._last: ErrorFeedback | None = None

    def of(self, gram: Tensor) -> ErrorFeedback:
        """Return the feedback of second moments ``(columns, columns)``; see `ErrorFeedback.of`."""
        if self._last is None or self._last.gram is not gram:
            self._last = ErrorFeedback.of(gram, self._method)
        return self._last
