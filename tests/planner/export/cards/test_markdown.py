"""No name of others adds a line, a heading, a column or a field to a card."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from planner.export.cards.markdown import code, escaped, front_matter, plain

NAMES = [
    "plain\n# Trusted by everyone\n",
    "a|b|c",
    "a\r\n---\nlicense: mit",
    "```\nrun this\n```",
    "$x$ and $y$",
    "<script>alert(1)</script>",
    "[here](https://example.org)",
    "\u202egnp.exe",
    "\u2028# line",
    "🦙-tiny",
    "`",
    " ",
    "x" * 300,
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_stays_one_line(name: str) -> None:
    for shown in (plain(name), escaped(name), code(name)):
        assert len(shown.splitlines()) <= 1
        assert shown.isprintable()
    assert len(plain(name)) <= 120


def test_marks_of_markdown_are_escaped() -> None:
    assert escaped("a|b *c* $d$ <e> [f] `g`") == (
        r"a\|b \*c\* \$d\$ \<e\> \[f\] \`g\`"  # as CommonMark and GitHub have it
    )
    assert escaped("SmolLM2-135M_Instruct 🦙") == "SmolLM2-135M_Instruct 🦙"


@given(st.text(max_size=40))
def test_code_closes_where_it_opened(name: str) -> None:
    shown = code(name)
    fence = shown[: len(shown) - len(shown.lstrip("`"))]
    inside = shown[len(fence) : -len(fence)]
    assert shown.endswith(fence)
    assert fence not in inside
    assert inside.strip() == plain(name).strip()


@given(st.dictionaries(st.sampled_from(["license", "tags"]), st.lists(st.text(max_size=20))))
def test_the_head_of_a_card_is_read_as_it_was_meant(fields: dict[str, list[str]]) -> None:
    text = front_matter(fields)
    assert text.startswith("---\n")
    assert text.endswith("\n---\n")
    head = text.removeprefix("---\n").removesuffix("---\n")
    assert "\n---" not in head
    assert yaml.safe_load(head) == {name: value for name, value in fields.items() if value}
