"""Lists of number formats as they are typed, and the default of each place."""

import pytest

from search_spaces.errors import SettingsError
from search_spaces.space.formats.format_ladder import FormatLadder
from search_spaces.space.number_format import FORMATS


def test_names_come_in_any_case_and_once() -> None:
    ladder = FormatLadder.parse(" q4_k,Q8_0 ,Q4_K, SOURCE")
    assert str(ladder) == "Q4_K,Q8_0,source"
    assert FormatLadder.parse(str(ladder)) == ladder


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Q4_K_M", "got `Q4_K_M`; did you mean `Q4_K`"),
        ("int3", "got `int3`; did you mean `int8`"),
        ("zzz", "got `zzz`; choose from BF16, Q8_0"),
        (",", "got nothing; choose from BF16"),
    ],
)
def test_an_unknown_name_is_refused_and_the_nearest_named(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as refusal:
        FormatLadder.parse(text)
    assert len(str(refusal.value)) <= 300


def test_each_place_has_a_default_that_it_stores() -> None:
    assert str(FormatLadder.of(FORMATS.values())) == "Q8_0,Q6_K,Q5_K,Q4_K,Q3_K,Q2_K"
    assert str(FormatLadder.of({FORMATS["int4"], FORMATS["int8"]})) == "int8,int4"
    assert FormatLadder.of(()) == FormatLadder(())
