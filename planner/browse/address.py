"""What the address of the page says, so that it can be sent to somebody and opened again."""

from dataclasses import dataclass, field
from urllib.parse import parse_qs


@dataclass(frozen=True, kw_only=True)
class Address:
    """What a visitor wants to see; ``assets/browse.js`` writes the same names."""

    runs: tuple[str, ...] = ()
    budget: str | None = None
    plans: tuple[tuple[str, str | None], ...] = ()
    """Ids of plans, each with its run; `None`: the first."""
    axes: dict[str, str] = field(default_factory=dict)
    """Of pictures, by the ids of their choosers."""

    @classmethod
    def of(cls, search: str | None, choosers: tuple[str, ...] = ()) -> "Address":
        """Read an address.

        Args:
            search: What is behind its question mark, and that.
            choosers: Ids of choosers of axes.
        """
        given = parse_qs((search or "").removeprefix("?"))
        return cls(
            runs=tuple(given.get("run", ())),
            budget=given["budget"][-1] if "budget" in given else None,
            plans=tuple(_plan(text) for text in given.get("plan", ())),
            axes={name: given[name][-1] for name in choosers if name in given},
        )


def _plan(text: str) -> tuple[str, str | None]:
    """Read a plan: its id, and behind a sign its run, which may have any signs."""
    plan_id, _, run = text.partition("@")
    return plan_id, run or None
