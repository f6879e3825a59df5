"""A sequence that is made when it is first read."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeVar, overload

Item = TypeVar("Item")


class Lazily(Sequence[Item]):
    """Stands for a sequence that is dear to make and often not needed.

    Args:
        make: Makes it; called at most once.
    """

    def __init__(self, make: Callable[[], Sequence[Item]]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Sequence[Item]:
        return self._make()

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        return self._made[index]

    def __len__(self) -> int:
        return len(self._made)
