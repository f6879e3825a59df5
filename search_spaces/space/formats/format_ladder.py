"""The number formats that a search offers, in the words of ``--formats``."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

from search_spaces.errors import SettingsError
from search_spaces.space.number_format import FORMATS, NumberFormat
from search_spaces.suggestions import suggestion

_LADDERS = (("Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K"), ("int8", "int4"))
"""Of the runtimes that there are: the first that one holds some of is its default."""


@dataclass(frozen=True)
class FormatLadder:
    """Number formats of matrices to choose from, besides the dense model's.

    >>> str(FormatLadder.parse("q8_0, Q4_K"))
    'Q8_0,Q4_K'
    """

    formats: tuple[NumberFormat, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse names separated by commas, in any order and case.

        Raises:
            SettingsError: If there is none, or one is unknown; the nearest is named.
        """
        by_name = {name.lower(): each for name, each in FORMATS.items()}
        names = [name.strip() for name in text.split(",") if name.strip()]
        for name in names:
            if name.lower() not in by_name:
                raise SettingsError(
                    f"`formats` must name number formats of matrices, got `{name[:20]}`; "
                    f"{suggestion(name, FORMATS)}"
                )
        if not names:
            raise SettingsError(
                "`formats` must name number formats, got nothing; choose from "
                f"{', '.join(FORMATS)}"
            )
        return cls(tuple(dict.fromkeys(by_name[name.lower()] for name in names)))

    @classmethod
    def of(cls, stores: Collection[NumberFormat]) -> Self:
        """Return the default of what a target stores; empty: it stores none."""
        for names in _LADDERS:
            held = tuple(FORMATS[name] for name in names if FORMATS[name] in stores)
            if held:
                return cls(held)
        return cls(())

    def __str__(self) -> str:
        return ",".join(each.name for each in self.formats)
