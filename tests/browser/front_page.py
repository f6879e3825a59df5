"""The page as a visitor handles it: what stands where, what is typed, clicked and dragged."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from planner.browse import ids
from tests.browser.chromium import Watch

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

_MOST_SECONDS = 30.0
"""For the rows of the table: a busy machine is no failure."""
_DRAWN = """name => {
    const plot = document.querySelector(`#${name} .js-plotly-plot`);
    return Boolean(plot && plot.calcdata && plot._fullData.length);
}"""
_POINTS = """name => {
    const plot = document.querySelector(`#${name} .js-plotly-plot`);
    const known = value => Number.isFinite(value) ? value : null;
    return plot._fullData.filter(trace => trace.customdata).flatMap(trace =>
        Array.from(trace.customdata, (data, i) => ({trace: trace.name, run: data[0],
            plan: data[1], x: known(trace.x[i]), y: known(trace.y[i])})));
}"""
_TRACES = """name => {
    const plot = document.querySelector(`#${name} .js-plotly-plot`);
    return plot._fullData.filter(trace => trace.visible === true && (trace.x || trace.z || [])
        .length).map(trace => trace.name || trace.type);
}"""
_MARKED = """([name, mark, plan]) => {
    const plot = document.querySelector(`#${name} .js-plotly-plot`);
    const shapes = plot._fullLayout.shapes.filter(shape => shape.name === mark);
    const painted = plot.querySelectorAll('.shapelayer path').length;
    return painted >= plot._fullLayout.shapes.length && plot._fullData
        .filter(trace => trace.customdata).some(trace => Array.from(trace.customdata).some(
            (data, i) => data[1] === plan && shapes.some(
                shape => shape.xanchor === trace.x[i] && shape.yanchor === trace.y[i])));
}"""
_PLACE = """([name, x, y]) => {
    const plot = document.querySelector(`#${name} .js-plotly-plot`);
    plot.scrollIntoView({block: 'center'});
    const {xaxis, yaxis} = plot._fullLayout, box = plot.getBoundingClientRect();
    return [box.left + xaxis._offset + xaxis.d2p(x), box.top + yaxis._offset + yaxis.d2p(y)];
}"""


class FrontPage:
    """One visitor's window."""

    def __init__(self, page: "Page", watch: Watch) -> None:
        self.page = page
        self.watch = watch

    def open(self, url: str, *, runs: Sequence[str] = (), **asked: str) -> None:
        """Open an address, and wait for what is drawn first.

        Args:
            url: Of the server.
            runs: To choose.
            asked: Anything else that the address says, such as ``budget``.
        """
        query = urlencode([*(("run", name) for name in runs), *asked.items()])
        self.page.goto(f"{url.rstrip('/')}/?{query}" if query else url)

    def close(self) -> None:
        self.page.context.close()

    def part(self, name: str) -> "Locator":
        """Return an element by its id."""
        return self.page.locator(f"#{name}")

    def wait_drawn(self, name: str = ids.FRONT) -> None:
        """Wait until a picture shows points."""
        self.page.wait_for_function(_DRAWN, arg=name)
        self.page.wait_for_function(f"name => ({_POINTS})(name).length > 0", arg=name)

    def wait_for_traces(self, name: str) -> None:
        """Wait until a picture shows anything."""
        self.page.wait_for_function(
            f"name => ({_DRAWN})(name) && ({_TRACES})(name).length", arg=name
        )

    def points(self, name: str = ids.FRONT) -> list[dict[str, Any]]:
        """Return the plans that a picture shows, each with its place."""
        points: list[dict[str, Any]] = self.page.evaluate(_POINTS, name)
        return points

    def traces(self, name: str = ids.FRONT) -> list[str]:
        """Return the names of what a picture shows."""
        traces: list[str] = self.page.evaluate(_TRACES, name)
        return traces

    def wait_for_mark(self, mark: str, plan_id: str, name: str = ids.FRONT) -> None:
        """Wait until a mark stands at the place of a plan, and is painted there."""
        self.page.wait_for_function(_MARKED, arg=[name, mark, plan_id])

    def front_plans(self) -> list[str]:
        """Return the ids of the plans on the front, as scored on the search text."""
        return [p["plan"] for p in self.points() if "front, search" in p["trace"]]

    def set_budget(self, text: str) -> None:
        """Type a budget into its box."""
        box = self.part(ids.BUDGET)
        box.fill(text)
        box.press("Enter")

    def options(self, name: str) -> "Locator":
        """Open a chooser, and return what it offers."""
        self.part(name).click()
        options = self.page.locator(".dash-dropdown-content .dash-dropdown-option")
        options.first.wait_for()
        return options

    def place(self, plan_id: str, name: str = ids.FRONT) -> tuple[float, float]:
        """Return where on the screen a plan is drawn."""
        found = [p for p in self.points(name) if p["plan"] == plan_id and p["x"] is not None]
        x, y = self.page.evaluate(_PLACE, [name, found[0]["x"], found[0]["y"]])
        return x, y

    def click_plan(self, plan_id: str, name: str = ids.FRONT) -> None:
        """Click a plan in a picture, and wait for what is shown of it."""
        x, y = self.place(plan_id, name)
        self.page.mouse.move(x - 3, y - 3)
        self.page.mouse.move(x, y)
        self.page.mouse.click(x, y)

    def brush(self, plan_ids: Sequence[str]) -> None:
        """Draw a box around plans."""
        self.page.locator(f"#{ids.FRONT} [data-attr=dragmode][data-val=select]").click()
        places = [self.place(plan_id) for plan_id in plan_ids]
        left, top = (min(values) - 5 for values in zip(*places, strict=True))
        right, bottom = (max(values) + 5 for values in zip(*places, strict=True))
        self.page.mouse.move(left, top)
        self.page.mouse.down()
        self.page.mouse.move((left + right) / 2, (top + bottom) / 2)
        self.page.mouse.move(right, bottom)
        self.page.mouse.up()

    def rows(self) -> list[str]:
        """Return the ids of the plans that the table lists, from above."""
        rows = self.page.locator(f"#{ids.PLANS} .ag-center-cols-container .ag-row[row-id]")
        found: list[tuple[int, str]] = rows.evaluate_all(
            "rows => rows.map(row => [Number(row.getAttribute('row-index')),"
            " row.getAttribute('row-id')])"
        )
        return [key.rpartition("\n")[2] for _, key in sorted(found)]

    def wait_for_rows(self, are_right: Callable[[list[str]], bool]) -> list[str]:
        """Wait until the rows of the table are as they should be, and return them."""
        deadline = time.monotonic() + _MOST_SECONDS
        while not are_right(rows := self.rows()):
            assert time.monotonic() < deadline, f"the table lists {rows}"
            self.page.wait_for_timeout(50)
        return rows

    def is_too_wide(self) -> bool:
        """Return whether one must scroll sideways."""
        wide: bool = self.page.evaluate(
            "() => document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )
        return wide
