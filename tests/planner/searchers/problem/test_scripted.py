import numpy as np

from planner.searchers.problem.scripted import Script, ScriptedSearcher
from planner.searchers.protocol import Answer, Ask


def answer(ask: Ask) -> Answer:
    """KL is the sum of the levels."""
    sums = ask.genomes.sum(axis=1).astype(np.float64)
    return Answer(objectives=np.stack([sums, sums], axis=1), seen=np.ones(len(sums)))


def test_it_asks_what_is_new_and_remembers_the_rest() -> None:
    sent = []

    def script() -> Script:
        sent.append((yield np.array([[1, 0], [2, 0], [1, 0]])))
        sent.append((yield np.array([[2, 0], [3, 3]])))
        sent.append((yield np.array([[3, 3], [1, 0]])))
        sent.append((yield np.array([[0, 5]])))

    searcher = ScriptedSearcher(script(), 2)
    asked = []
    while len((ask := searcher.ask()).genomes):
        asked.append(ask.genomes.tolist())
        assert not ask.racing
        assert ask.rungs is None
        searcher.tell(ask, answer(ask))
    assert asked == [[[1, 0], [2, 0]], [[3, 3]], [[0, 5]]]
    assert [kls.tolist() for kls in sent] == [[1, 2, 1], [2, 6], [6, 1], [5]]


def test_a_script_without_a_step_asks_nothing() -> None:
    def script() -> Script:
        yield from ()

    searcher = ScriptedSearcher(script(), 3)
    assert searcher.ask().genomes.shape == (0, 3)
    assert np.issubdtype(searcher.ask().genomes.dtype, np.integer)
