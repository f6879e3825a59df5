import pytest

from planner.settings.budget import Budget
from search_spaces.errors import BudgetError


def wide(text: str) -> str:
    """Write ASCII in full width, as Chinese and Japanese keyboards do."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


@pytest.mark.parametrize(
    "text",
    [
        "params ≤ 0.7x",
        "params≦0.7×",
        "params=<0.7x",
        "params⩽0.7✕",
        wide("params<=0.7x"),
        f"params{wide('<')}=0.7x",
        "params\u00a0<=\u00a00.7\u202fx",
        "\ufeffparams<=0.7x\u200b",
        "PARAMS <=\t.7X",
    ],
)
def test_signs_of_other_keyboards_are_understood(text: str) -> None:
    assert Budget.parse(text) == Budget.parse("params<=0.7x")


@pytest.mark.parametrize("text", ["throughput ≥ 40", "throughput=>40", wide("throughput≧40")])
def test_so_are_those_of_lower_limits(text: str) -> None:
    assert Budget.parse(text) == Budget.parse("throughput>=40")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("params<=0,7x", "got '7x'; write as params<=0.7x,kl<=0.05"),
        ("params≥0.7x", "understands only <=, got 'params>=0.7x'"),
        ("params<=0.5x,params>=0.7x", "understands only <="),
        ("params<=10⁵", "a number in K, M, B"),  # not 105
        ("params<=70%", "0.7x, not 70%, for a share"),
        ("params<=1_000", "fix the value"),
        ("null", "must read NAME<=VALUE"),
        ("params<=" + "9" * 5000, "finite and at least 0"),
        ("x" * 5000, "must read NAME<=VALUE"),
        ("x" * 5000 + "<=1", "a budget can limit params"),
        ("params>=" + "1" * 5000, "understands only <="),
    ],
)
def test_what_is_not_is_refused_in_a_short_sentence(text: str, said: str) -> None:
    with pytest.raises(BudgetError) as caught:
        Budget.parse(text)
    assert said in str(caught.value)
    assert len(str(caught.value)) <= 300
