"""The page as its address asks for it, with what is looked at first already on it.

A browser then draws it from one answer of the server, and not after a chain of questions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from dash import html, no_update

from planner.browse import ids
from planner.browse.address import Address
from planner.browse.callbacks.budget_callbacks import (
    answer_parts,
    answers,
    first_question,
    main_run,
)
from planner.browse.callbacks.front_callbacks import PICKERS, axis_choices, picture_parts
from planner.browse.callbacks.plan_callbacks import second_choices
from planner.browse.callbacks.run_callbacks import points_of, run_choices, state_line
from planner.browse.page import SLIDERS, page_layout
from planner.browse.run_shelf import RunShelf
from planner.figures.figure_axes import SPLITS

THEME_COOKIE = "browse-theme"
"""What a browser keeps of the theme, as ``assets/browse.js`` writes it."""
_CHOICES, _THEMES = ("auto", "light", "dark"), ("light", "dark")
Part = tuple[str, str]
"""The id of an element, and one of its properties."""


@dataclass(frozen=True, kw_only=True)
class ThemeChoice:
    """What a visitor chose, and what that comes to on the visitor's screen."""

    chosen: str = "auto"
    shown: str = "light"

    @classmethod
    def of(cls, cookie: str | None) -> Self:
        """Read what a browser kept; anything else is as if it had kept nothing.

        >>> ThemeChoice.of("auto-dark"), ThemeChoice.of("<b>")
        (ThemeChoice(chosen='auto', shown='dark'), ThemeChoice(chosen='auto', shown='light'))
        """
        chosen, _, shown = (cookie or "").partition("-")
        is_known = chosen in _CHOICES and shown in _THEMES
        return cls(chosen=chosen, shown=shown) if is_known else cls()


def first_look(shelf: RunShelf, search: str, theme: ThemeChoice) -> html.Div:
    """Return the page for one visitor.

    Args:
        shelf: The runs.
        search: What the address says behind its question mark.
        theme: Of the visitor.
    """
    page = page_layout(shelf.folder.name)
    parts = _parts(shelf, Address.of(search, PICKERS), theme)
    for (name, part), value in parts:
        if value is not no_update:
            setattr(page[name], part, value)
    return page


def _parts(shelf: RunShelf, address: Address, theme: ThemeChoice) -> Iterator[tuple[Part, Any]]:
    yield (ids.THEME, "value"), theme.chosen
    yield (ids.THEME_NOW, "data"), theme.shown
    offered, wanted, notice = run_choices(shelf, address, None, None)
    looks = shelf.looks([] if wanted is no_update else wanted)
    revisions = [(look.name, look.revision) for look in looks]
    yield (ids.RUNS, "options"), offered
    yield (ids.RUNS, "value"), wanted
    yield (ids.NOTICE, "children"), notice
    yield (ids.REVISIONS, "data"), revisions
    yield (ids.RUN_STATES, "children"), [state_line(look) for look in looks]
    question = first_question(shelf, main_run(revisions), address)
    yield from _question_parts(question)
    answer = answer_parts(answers(shelf, question.get("text", ""), revisions), address.plans)
    yield from _answer_parts(answer)
    points = points_of(shelf, revisions)
    offered_axes, axes = axis_choices(points, dict.fromkeys(PICKERS), address)
    for name in PICKERS:
        yield (name, "options"), offered_axes
        yield (name, "value"), axes[name]
    # what is chosen must be offered
    yield (ids.COMPARE, "options"), second_choices(points)
    if not points:
        return
    asked = {
        "revisions": revisions,
        "x": axes[ids.X],
        "y": axes[ids.Y],
        "colour": axes[ids.COLOUR],
        "dominated": ["shown"],
        "splits": list(SPLITS),
        "theme": theme.shown,
        "answered": answer["answered"],
        "selection": None if answer["selection"] is no_update else answer["selection"],
    }
    figure, drawn, style = picture_parts(points, asked)
    yield (ids.FRONT, "figure"), figure
    yield (ids.FRONT_DRAWN, "data"), drawn
    yield (ids.FRONT, "style"), style


def _question_parts(question: Mapping[str, Any]) -> Iterator[tuple[Part, Any]]:
    if not question:
        return
    yield (ids.BUDGET, "value"), question["text"]
    yield (ids.BUDGET_RUN, "data"), question["known_run"]
    for place, name in enumerate(SLIDERS):
        yield (ids.slider(name), "value"), question["values"][place]
        yield (ids.slider(name), "min"), question["least"][place]
        yield (ids.slider_label(name), "children"), question["labels"][place]
        yield (ids.slider_row(name), "hidden"), question["hidden"][place]


def _answer_parts(answer: Mapping[str, Any]) -> Iterator[tuple[Part, Any]]:
    yield (ids.ANSWERED, "data"), answer["answered"]
    yield (ids.ANSWER, "children"), answer["words"]
    yield (ids.BUDGET_FAULT, "children"), answer["fault"]
    yield (ids.SHOW_ANSWER, "hidden"), answer["hides_button"]
    yield (ids.SELECTION, "data"), answer["selection"]
    yield (ids.COMPARE, "value"), answer["compared"]
