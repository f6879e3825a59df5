"""One file for each criterion by which units are ordered."""

from typing import Literal, assert_never

from search_spaces.rankings.protocol import Ranking

RankingName = Literal["wanda"]


def make_ranking(name: RankingName) -> Ranking:
    """Give the ranking of a name."""
    match name:
        case "wanda":
            from search_spaces.rankings.wanda import Wanda

            return Wanda()
        case _:
            assert_never(name)
