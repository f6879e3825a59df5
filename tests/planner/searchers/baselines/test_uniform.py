from planner.searchers.baselines.uniform import van_der_corput


def test_the_van_der_corput_sequence() -> None:
    assert [van_der_corput(i) for i in range(1, 8)] == [
        1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8,
    ]  # fmt: skip
