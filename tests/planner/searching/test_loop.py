import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from planner.results.front import front
from planner.run import Run
from planner.runs.records import Evaluation, SearchEffort
from planner.searchers import SearcherName
from planner.searchers.protocol import Answer, Ask
from planner.searching.loop import SearchLoop
from planner.searching.objectives import Objectives
from planner.searching.spending import Limits, SearchProgress
from planner.settings.search import Racing
from search_spaces.errors import RunError
from tests import ROOT
from tests.problems.toy_search import (
    EVALUATIONS,
    OBJECTIVES,
    PROBLEM,
    SETTINGS,
    RacingScorer,
    Scorer,
    domain,
    evaluation,
    made,
    score_of,
    search,
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[Evaluation]:
    with Run.create(tmp_path_factory.mktemp("whole"), SETTINGS) as run:
        assert search(run, Scorer()) == "evaluations"
        return run.landed()


def by_genome(evaluations: list[Evaluation]) -> list[Evaluation]:
    return sorted(evaluations, key=lambda found: found.genome)


def test_a_search_scores_as_many_plans_as_it_was_given(uninterrupted: list[Evaluation]) -> None:
    assert len(uninterrupted) == EVALUATIONS
    assert len({found.genome for found in uninterrupted}) == EVALUATIONS
    assert [found.round for found in uninterrupted] == [i // 8 for i in range(60)]


@pytest.mark.parametrize("fail_after", [0, 5, 8, 37, 59])
def test_a_resumed_search_ends_like_one_that_was_never_stopped(
    tmp_path: Path, uninterrupted: list[Evaluation], fail_after: int
) -> None:
    with Run.create(tmp_path, SETTINGS) as run, pytest.raises(KeyboardInterrupt):
        search(run, Scorer(fail_after=fail_after))
    scorer = Scorer()
    with Run.resume(tmp_path, SETTINGS) as run:
        search(run, scorer)
        assert scorer.count == EVALUATIONS - fail_after
        assert by_genome(run.landed()) == by_genome(uninterrupted)
        assert front(run.landed(), ("params",)) == front(uninterrupted, ("params",))


def test_a_search_taken_further_ends_like_one_that_was_meant_to(
    tmp_path: Path, uninterrupted: list[Evaluation]
) -> None:
    with Run.create(tmp_path, SETTINGS) as run:
        search(run, Scorer(), Limits(evaluations=21))
    with Run.resume(tmp_path, SETTINGS) as run:
        search(run, Scorer())
        assert by_genome(run.landed()) == by_genome(uninterrupted)


def test_a_killed_search_loses_nothing(tmp_path: Path, uninterrupted: list[Evaluation]) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "tests.problems.toy_search", str(folder)]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        seen = _wait_for(process, folder, 19)
        with pytest.raises(RunError, match="one process at a time"):
            Run.resume(folder, SETTINGS)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with Run.open(folder) as run:
        left = run.landed()
    assert set(seen) <= {found.genome for found in left}
    assert len(left) < EVALUATIONS
    scorer = Scorer()
    with Run.resume(folder, SETTINGS) as run:
        search(run, scorer)
        assert scorer.count == EVALUATIONS - len(left)
        assert by_genome(run.landed()) == by_genome(uninterrupted)


def _wait_for(process: subprocess.Popen[bytes], folder: Path, count: int) -> list[tuple[int, ...]]:
    """Watch a search of another process until it has scored so many plans."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the search ended by itself with {process.returncode}"
        try:
            with Run.open(folder) as run:
                genomes = [found.genome for found in run.landed()]
        except RunError:
            genomes = []
        if len(genomes) >= count:
            return genomes
        time.sleep(0.02)
    raise AssertionError("the search did not start")


def test_tokens_stop_a_search(tmp_path: Path) -> None:
    with Run.create(tmp_path, SETTINGS) as run:
        assert search(run, Scorer(), Limits(evaluations=60, tokens=1050)) == "tokens"
        assert len(run.landed()) == 11


def test_minutes_stop_a_search_and_count_from_its_beginning(tmp_path: Path) -> None:
    with Run.create(tmp_path, SETTINGS) as run:
        search(run, Scorer(), Limits(evaluations=4))
        run.record(evaluation((0, 3) * 4, seconds=90.0))
    scorer = Scorer()
    with Run.resume(tmp_path, SETTINGS) as run:
        assert search(run, scorer, Limits(evaluations=60, minutes=1.5)) == "minutes"
        assert scorer.count == 0
        assert search(run, scorer, Limits(evaluations=60, minutes=60.0)) == "evaluations"


def test_a_resumed_search_replays_all_before_its_minutes_count(tmp_path: Path) -> None:
    """Its own choosing is part of a session's time; no replay may end before what was scored."""
    with Run.create(tmp_path, SETTINGS) as run:
        search(run, Scorer(), Limits(evaluations=20))
        run.record(evaluation((0, 3) * 4, seconds=90.0))
    scorer = Scorer()
    with Run.resume(tmp_path, SETTINGS) as run:
        loop = SearchLoop(
            made("nsga2", domain(), population=8, seed=3),
            scorer,
            run,
            Limits(minutes=1.0),
            OBJECTIVES,
        )
        assert loop.run() == "minutes"
        assert (loop.spent.plans, loop.spent.tokens) == (20, 2000)
        assert loop.spent.seconds >= 90.0
    assert scorer.count == 0


def test_what_a_search_took_never_falls(tmp_path: Path) -> None:
    """A search that ended at its minutes is resumed with them: it ends at once, as it was."""
    spent = SearchEffort(plans=20, tokens=2000, seconds=60.5, choosing_seconds=59.0)
    with Run.create(tmp_path, SETTINGS) as run:
        search(run, Scorer(), Limits(evaluations=20))
        run.record_finish(spent)
    scorer = Scorer()
    with Run.resume(tmp_path, SETTINGS) as run:
        searcher = made("nsga2", domain(), population=8, seed=3)
        loop = SearchLoop(searcher, scorer, run, Limits(minutes=1.0), OBJECTIVES)
        assert loop.run() == "minutes"
        taken = loop.spent
    assert scorer.count == 0
    assert (taken.plans, taken.tokens) == (20, 2000)
    assert taken.seconds >= 60.5
    assert taken.choosing_seconds == 59.0


class Repeating:
    """Proposes the same genome, for ever."""

    def __init__(self) -> None:
        self.told = 0

    def ask(self) -> Ask:
        return Ask(genomes=np.ones((2, 8), dtype=np.int_))

    def tell(self, ask: Ask, answer: Answer) -> None:
        assert answer.objectives.shape == (2, 2)
        self.told += 1


def test_a_searcher_without_ideas_is_stopped(tmp_path: Path) -> None:
    searcher, scorer = Repeating(), Scorer()
    with Run.create(tmp_path, SETTINGS) as run:
        limits = Limits(evaluations=60)
        assert SearchLoop(searcher, scorer, run, limits, OBJECTIVES).run() == "exhausted"
        assert len(run.landed()) == scorer.count == 1
    assert searcher.told == 21


def test_progress_reports_how_far_and_how_long(tmp_path: Path) -> None:
    told: list[SearchProgress] = []
    with Run.create(tmp_path, SETTINGS) as run:
        limits = Limits(evaluations=5)
        loop = SearchLoop(Repeating(), Scorer(pause=0.01), run, limits, OBJECTIVES)
        loop.run(told.append)
    beginning, only = told
    assert (beginning.done, beginning.latest, beginning.eta_seconds) == (0, None, None)
    assert {each.doing for each in told} == {"round 1: 1 plan on 2 of 2 windows"}
    assert only.latest is not None
    assert (only.done, only.share, only.latest.genome) == (1, 0.2, (1,) * 8)
    assert only.eta_seconds is not None
    assert only.eta_seconds == pytest.approx(4 * only.seconds, rel=0.5)


def test_objectives_are_kl_and_shares_and_finite() -> None:
    plan = evaluation((3, 3, 3, 3, 0, 0, 0, 0))
    broken = replace(plan, score=score_of({"kl": (math.nan, 0.0)}, failure="broken"))
    found = Objectives(replace(PROBLEM, cost_names=("params", "kv"))).of([plan, broken])
    assert found[0] == pytest.approx([0.2 + 0.03 + 0.6 + 0.15, 0.6, 0.6])
    assert np.isfinite(found).all()
    assert found[1, 0] > 100


@pytest.mark.parametrize("racing", ["tests", "halving"])
def test_a_race_that_was_stopped_anywhere_ends_as_if_it_was_not(
    tmp_path: Path, racing: Racing
) -> None:
    settings = SETTINGS.model_copy(update={"racing": racing})
    whole = RacingScorer()
    with Run.create(tmp_path / "whole", settings) as run:
        search(run, whole)
        expected = by_genome(run.landed())
    assert whole.count > EVALUATIONS  # more than one rung was climbed
    for fail_after in (3, 9, 17, whole.count - 1):
        folder = tmp_path / str(fail_after)
        with Run.create(folder, settings) as run, pytest.raises(KeyboardInterrupt):
            search(run, RacingScorer(fail_after=fail_after))
        rest = RacingScorer()
        with Run.resume(folder, settings) as run:
            search(run, rest)
            assert by_genome(run.landed()) == expected
        assert rest.count == whole.count - fail_after


def test_racing_spends_less_and_keeps_the_front(tmp_path: Path) -> None:
    spent, fronts = {}, {}
    for racing in ("off", "tests"):
        settings = SETTINGS.model_copy(update={"racing": racing, "searcher": "random"})
        with Run.create(tmp_path / racing, settings) as run:
            searcher = made("random", domain(), 20, 0)
            limits = Limits(evaluations=60)
            SearchLoop(
                searcher, RacingScorer(), run, limits, OBJECTIVES, racing=settings.racing
            ).run()
            found = run.landed()
        spent[racing] = sum(e.score.tokens for e in found)
        fronts[racing] = {e.genome for e in front(found, ("params",))}
    assert spent["tests"] < 0.8 * spent["off"]
    assert len(fronts["tests"] & fronts["off"]) >= 0.9 * len(fronts["off"])
    assert all(e.score.windows == 16 for e in found if e.genome in fronts["tests"])


def test_what_a_race_dropped_is_projected_to_all_windows() -> None:
    scorer = RacingScorer()
    genomes = np.array([[3, 3, 3, 3, 0, 0, 0, 0], [0, 3] * 4, [1, 2] * 4])
    plans = [e for _, e in sorted(scorer.score(genomes), key=lambda pair: pair[0])]
    short = plans[2].scored(plans[2].score.upto(4))
    told = OBJECTIVES.of([short], plans[:2])[0, 0]
    assert told == pytest.approx(plans[2].quality["kl"].value, rel=0.05)
    assert abs(short.quality["kl"].value / told - 1) > 0.1  # something to correct


def test_a_plan_that_failed_counts_as_the_worst_and_is_recorded_with_its_reason(
    tmp_path: Path,
) -> None:
    class Breaking(RacingScorer):
        def score(
            self, genomes: NDArray[np.int_], rung: int | None = None
        ) -> Iterator[tuple[int, Evaluation]]:
            for index, found in super().score(genomes, rung):
                failure = "its logits hold NaN" if sum(found.genome) % 3 == 0 else None
                yield index, found.scored(replace(found.score, failure=failure))

    with Run.create(tmp_path, SETTINGS) as run:
        assert search(run, Breaking()) == "evaluations"
        failed = [e for e in run.landed() if e.score.failure]
        assert failed
        assert all(sum(e.genome) % 3 == 0 for e in failed)
        assert {e.score.failure for e in failed} == {"its logits hold NaN"}
        assert not set(genomes_of(failed)) & set(genomes_of(front(run.landed(), ("params",))))
    assert OBJECTIVES.of(failed)[:, 0].min() > 100


def genomes_of(evaluations: list[Evaluation]) -> list[tuple[int, ...]]:
    return [evaluation.genome for evaluation in evaluations]


def test_a_round_in_which_every_plan_fails_does_not_end_the_search(tmp_path: Path) -> None:
    class Ruined(RacingScorer):
        def score(
            self, genomes: NDArray[np.int_], rung: int | None = None
        ) -> Iterator[tuple[int, Evaluation]]:
            for index, found in super().score(genomes, rung):
                values = np.full(found.score.windows, math.nan)
                ruined = replace(found.score, by_window={"kl": values}, failure="NaN")
                yield index, found.scored(ruined)

    with Run.create(tmp_path, SETTINGS) as run:
        assert search(run, Ruined()) == "evaluations"
        assert front(run.landed(), ("params",)) == []


def test_a_plan_that_fails_late_is_replayed_as_it_raced(tmp_path: Path) -> None:
    class FailingLate(RacingScorer):
        def score(
            self, genomes: NDArray[np.int_], rung: int | None = None
        ) -> Iterator[tuple[int, Evaluation]]:
            for index, found in super().score(genomes, rung):
                if rung == 1 and sum(found.genome) % 2:
                    values = {n: v * math.nan for n, v in found.score.by_window.items()}
                    broken = replace(found.score, by_window=values, failure="NaN")
                    yield index, found.scored(broken)
                else:
                    yield index, found

    with Run.create(tmp_path / "whole", SETTINGS) as run:
        whole = FailingLate()
        search(run, whole)
        expected = by_genome(run.landed())
    assert any(e.score.failure and e.score.windows == 8 for e in expected)
    with Run.create(tmp_path / "cut", SETTINGS) as run, pytest.raises(KeyboardInterrupt):
        search(run, FailingLate(fail_after=whole.count // 2))
    with Run.resume(tmp_path / "cut", SETTINGS) as run:
        search(run, FailingLate())
        assert by_genome(run.landed()) == expected


def test_tokens_that_run_out_within_a_race_leave_what_landed(tmp_path: Path) -> None:
    with Run.create(tmp_path, SETTINGS) as run:
        assert search(run, RacingScorer(), Limits(evaluations=60, tokens=3700)) == "tokens"
        windows = [e.score.windows for e in run.landed()]
    assert 100 * sum(windows) >= 3700
    assert min(windows) < 16


class Shuffled(RacingScorer):
    """Lets genomes land in an order of its own."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._rng = np.random.default_rng(seed)

    def score(
        self, genomes: NDArray[np.int_], rung: int | None = None
    ) -> Iterator[tuple[int, Evaluation]]:
        landed = list(super().score(genomes, rung))
        return iter([landed[place] for place in self._rng.permutation(len(landed))])


@pytest.mark.parametrize("name", ["nsga2", "frontier", "evopress"])
@pytest.mark.parametrize("tokens", [9000, 40_000])
def test_a_search_does_not_depend_on_who_lands_first(
    name: SearcherName, tokens: int, tmp_path: Path
) -> None:
    found = []
    for seed in range(3):
        with Run.create(tmp_path / str(seed), SETTINGS) as run:
            limits = Limits(evaluations=10_000, tokens=tokens)
            assert search(run, Shuffled(seed), limits, name) == "tokens"
            found.append(by_genome(run.landed()))
    assert found[0] == found[1] == found[2]


def test_progress_reaches_the_end_only_with_the_last_race(tmp_path: Path) -> None:
    told: list[SearchProgress] = []
    with Run.create(tmp_path, SETTINGS) as run:
        searcher = made("random", domain(), 20, 0)
        limits = Limits(evaluations=40)
        SearchLoop(searcher, RacingScorer(), run, limits, OBJECTIVES).run(told.append)
    done = [progress.done for progress in told]
    assert done == sorted(done)
    assert done[-1] == 40
    landed = [progress.done for progress in told if progress.latest is not None]
    assert landed[19] < 20  # all of the first round have landed on their first rung
    assert told[0].doing == "round 1: 20 plans on 4 of 16 windows"
    said = list(dict.fromkeys(progress.doing for progress in told))
    assert [words.partition(" on ")[2] for words in said[:3]] == [
        f"{windows} of 16 windows" for windows in RacingScorer.rungs
    ]
    assert said[3].startswith("round 2: ")


class Scripted:
    """Asks what it is given, one after another, and keeps the answers."""

    def __init__(self, *asks: Ask) -> None:
        self._asks = list(asks)
        self.answers: list[Answer] = []

    def ask(self) -> Ask:
        nothing = Ask(genomes=np.empty((0, 8), dtype=np.int_))
        return self._asks[len(self.answers)] if len(self.answers) < len(self._asks) else nothing

    def tell(self, ask: Ask, answer: Answer) -> None:
        self.answers.append(answer)


def scripted(
    folder: Path, *asks: Ask, limits: Limits | None = None
) -> tuple[SearchLoop, Scripted]:
    searcher = Scripted(*asks)
    with Run.create(folder, SETTINGS) as run:
        loop = SearchLoop(searcher, RacingScorer(), run, limits or Limits(), OBJECTIVES)
        loop.run()
    return loop, searcher


ONES, TWOS = np.ones((1, 8), dtype=np.int_), np.full((1, 8), 2)


def test_rungs_bound_how_far_a_plan_comes_and_it_goes_on_from_there(tmp_path: Path) -> None:
    asks = [Ask(genomes=ONES, rungs=1), Ask(genomes=ONES, rungs=2), Ask(genomes=ONES)]
    loop, searcher = scripted(tmp_path, *asks)
    assert [float(answer.seen[0]) for answer in searcher.answers] == [0.25, 0.5, 1.0]
    assert (loop.spent.plans, loop.spent.tokens) == (1, 1600)  # nothing is scored twice
    whole = OBJECTIVES.of(Run.open(tmp_path).landed())
    assert searcher.answers[-1].objectives[0] == pytest.approx(whole[0])


def test_what_is_only_shown_counts_for_no_limit(tmp_path: Path) -> None:
    asks = [Ask(genomes=ONES, counted=False), Ask(genomes=TWOS)]
    loop, searcher = scripted(tmp_path, *asks, limits=Limits(tokens=1500))
    assert len(searcher.answers) == 1  # the second, which counts, reached the limit
    assert (loop.spent.plans, loop.spent.tokens) == (1, 1600)
    with Run.open(tmp_path) as run:
        assert len(run.landed()) == 2


def test_samples_and_gradients_are_replies_that_count(tmp_path: Path) -> None:
    asks = [
        Ask(genomes=np.concatenate([ONES, TWOS]), windows=(3, 1)),
        Ask(genomes=ONES, gradients=True),
    ]
    loop, searcher = scripted(tmp_path, *asks)
    sampled, differentiated = searcher.answers
    assert sampled.objectives.shape == (2, 2)
    assert sampled.seen.tolist() == [2 / 16, 2 / 16]
    (gradients,) = differentiated.gradients
    assert gradients.shape == (32,)
    assert gradients[4 * 0 + 1] == 0  # no step
    assert loop.spent.plans == 2  # a gradient is no plan
    with Run.open(tmp_path) as run:
        assert run.landed() == []
        assert sorted(batch for batch, _ in run.replies()) == [0, 0, 1]


def test_a_risk_drops_more_than_the_careful_rule(tmp_path: Path) -> None:
    rows = np.array(
        [[3, 3, 3, 3, 3, 3, 3, 0], *[[3 - i % 2, 2, 3, 3, 3, 3, 3, 0] for i in (0, 1)]]
    )
    seen = []
    for name, risk in (("careful", None), ("bold", 0.4)):
        _, searcher = scripted(tmp_path / name, Ask(genomes=rows, risk=risk))
        seen.append(searcher.answers[0].seen.sum())
    assert seen[1] <= seen[0]


def test_a_search_without_limits_runs_until_nothing_is_asked(tmp_path: Path) -> None:
    landed: list[SearchProgress] = []
    with Run.create(tmp_path, SETTINGS) as run:
        loop = SearchLoop(Scripted(Ask(genomes=ONES)), RacingScorer(), run, Limits(), OBJECTIVES)
        assert loop.run(landed.append) == "exhausted"
    assert landed[-1].share < 1e-6
