import pytest

from search_spaces.suggestions import suggestion


@pytest.mark.parametrize(
    ("name", "otherwise", "remedy"),
    [
        ("populatoin", None, "did you mean `population`?"),
        ("populatoin", "look elsewhere", "did you mean `population`?"),
        ("zzz", None, "choose from population, seed"),
        ("zzz", "look elsewhere", "look elsewhere"),
    ],
)
def test_the_nearest_name_or_all_of_them(name: str, otherwise: str | None, remedy: str) -> None:
    assert suggestion(name, ["population", "seed"], otherwise) == remedy
