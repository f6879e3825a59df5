"""A plan as strips."""

from typing import Any

import pandas as pd

from planner.results.layer_strips import DROPPED, Strip, layer_strips


def row(layer: int, component: str, kept: int, of: int, options: str = "") -> dict[str, Any]:
    units = {"attention": "KV groups", "mlp": "channels", "experts": "experts"}
    return {
        "layer": layer,
        "component": component,
        "kept": kept,
        "of": of,
        "unit": units[component],
        "share": kept / of,
        "options": options,
    }


def shown(strip: Strip) -> list[str]:
    return [cell.text for cell in strip.cells]


def strips(*rows: dict[str, Any]) -> dict[str, Strip]:
    return {strip.name: strip for strip in layer_strips(pd.DataFrame(rows))}


def test_units_have_a_strip_a_kind() -> None:
    found = strips(
        row(0, "attention", 2, 3), row(0, "mlp", 768, 1536),
        row(1, "attention", 3, 3), row(1, "mlp", 1536, 1536),
    )  # fmt: skip
    assert {name: shown(strip) for name, strip in found.items()} == {
        "attention: KV groups, of 3": ["2", "3"],
        "MLP: channels, % of 1536": ["50", "100"],
    }
    first = found["attention: KV groups, of 3"].cells[0]
    assert (first.layer, first.share, first.note) == (0, 2 / 3, "2 of 3 KV groups kept")


def test_what_is_dropped_has_a_strip_of_its_own() -> None:
    found = strips(
        row(0, "attention", 0, 3), row(0, "mlp", 64, 64),
        row(1, "attention", 0, 3), row(1, "mlp", 0, 64),
        row(2, "attention", 3, 3), row(2, "mlp", 64, 64),
    )  # fmt: skip
    assert shown(found["attention: KV groups, of 3"]) == [DROPPED, DROPPED, "3"]
    drops = found["dropped whole"]
    assert [cell.share for cell in drops.cells] == [0.5, 0.0, 1.0]
    assert [cell.note for cell in drops.cells] == [
        "attention dropped",
        "the whole layer is dropped",
        "no part is dropped",
    ]


def test_options_have_strips_where_there_are_some() -> None:
    found = strips(
        row(0, "experts", 6, 8, "channels 16 of 64, top_k 1 of 2"), row(0, "attention", 3, 3),
        row(1, "experts", 8, 8, "pattern 2:4, format int8"), row(1, "attention", 0, 3),
        row(2, "experts", 8, 8, "pattern 70%"), row(2, "attention", 2, 3, "format int8"),
    )  # fmt: skip
    assert {name: shown(strip) for name, strip in found.items()} == {
        "experts, of 8": ["6", "8", "8"],
        "experts: channels of each expert": ["16", "all", "all"],
        "experts: experts for a token": ["1", "all", "all"],
        "experts: sparsity": ["", "2:4", "70%"],
        "experts: number format": ["", "int8", ""],
        "attention: KV groups, of 3": ["3", DROPPED, "2"],
        "attention: number format": ["", "", "int8"],
        "dropped whole": ["", "A", ""],
    }
    sparsity = found["experts: sparsity"].cells
    assert [cell.share for cell in sparsity[:2]] == [1.0, 0.5]
    assert found["experts: channels of each expert"].cells[0].share == 0.25
    # of a dropped attention there is no format to speak of
    assert found["attention: number format"].cells[1].share is None


def test_layers_may_lack_a_kind_or_differ_in_width() -> None:
    found = strips(row(0, "mlp", 32, 64), row(2, "experts", 4, 8), row(3, "mlp", 32, 128))
    assert {name: shown(strip) for name, strip in found.items()} == {
        "MLP: channels, of all": ["32", "", "32"],
        "experts, of 8": ["", "4", ""],
    }
    assert [cell.layer for cell in found["experts, of 8"].cells] == [0, 2, 3]
    assert found["experts, of 8"].cells[0].share is None
