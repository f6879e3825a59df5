import torch

from search_spaces.statistics import LayerStatistics, Statistics

LAYERS: list[Statistics] = [{("tokens", ""): torch.tensor(float(layer))} for layer in range(3)]


def test_statistics_are_measured_when_a_layer_is_first_asked_for() -> None:
    measured: list[int] = []

    def measure() -> list[Statistics]:
        measured.append(1)
        return LAYERS

    statistics = LayerStatistics(measure)
    assert not measured
    assert statistics.of(2) is LAYERS[2]
    assert statistics.of(0) is LAYERS[0]
    assert statistics.of_all() is LAYERS
    assert measured == [1]


def test_statistics_that_are_there_are_given_as_they_are() -> None:
    assert LayerStatistics.measured(LAYERS).of(1) is LAYERS[1]
