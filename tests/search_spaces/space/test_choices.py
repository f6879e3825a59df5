import pytest

from search_spaces.errors import SettingsError
from search_spaces.space.choices import WORDS, Choices


def test_words_are_read_in_any_order_and_written_in_one() -> None:
    found = Choices.parse("4:8, drops,sparsity ,heads,2:4,heads")
    assert found == Choices(heads=True, drops=True, fractions=True, groups=("2:4", "4:8"))
    assert str(found) == "heads,drops,sparsity,2:4,4:8"
    assert Choices.parse(str(found)) == found


@pytest.mark.parametrize("word", WORDS)
def test_each_word_stands_alone(word: str) -> None:
    assert str(Choices.parse(word)) == word


def test_layers_go_with_sparsity() -> None:
    assert Choices.parse("sparsity,layers") == Choices(layers=True, fractions=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "`space` must name what may be cut, got nothing; choose from heads, channels"),
        (" , ", "got nothing"),
        ("heads,chanels", "got `chanels`; did you mean `channels`?"),
        (
            "all",
            "got `all`; choose from heads, channels, drops, layers, stand_ins, experts, top_k, ",
        ),
        ("1:2", "got `1:2`; "),
        ("channels,layers", "got `layers` and `channels`; leave out one"),
        ("drops,layers", "got `layers` and `drops`; leave out one"),
    ],
)
def test_what_cannot_be_cut_is_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Choices.parse(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
