"""How long the page takes for what a visitor does, as the browser itself sees it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.browse import ids
from tests.browser.chromium import Watch
from tests.browser.front_page import FrontPage

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_FIRST = """(() => {
    const drawn = () => {
        const plot = document.querySelector('#%(front)s .js-plotly-plot');
        return plot && plot.calcdata && plot._fullData
            ? plot._fullData.reduce((sum, trace) => sum + (trace.meta?.plans || 0), 0) : 0;
    };
    window.firstPicture = new Promise((done, fail) => {
        const look = () => drawn() < %(plans)d ? requestAnimationFrame(look)
            : requestAnimationFrame(() => done(performance.now()));
        requestAnimationFrame(look);
        setTimeout(() => fail(Error('no picture')), 60000);
    });
})();"""
"""Since navigation, until clouds of so many plans are drawn and the frame with them is past."""
_AREA = """name => {
    const plot = document.querySelector(`#${name} .js-plotly-plot`);
    plot.scrollIntoView({block: 'center'});
    const {xaxis, yaxis} = plot._fullLayout, box = plot.getBoundingClientRect();
    return [box.left + xaxis._offset, box.top + yaxis._offset, xaxis._length, yaxis._length];
}"""
"""Where a picture has its plans: left and top, width and height."""
_NEXT = """() => {
    const plotOf = name => document.querySelector(`#${name} .js-plotly-plot`);
    const textOf = name => document.getElementById(name).textContent;
    const parts = () => [%(parts)s].map(part => JSON.stringify(part)), before = parts();
    const isNew = () => parts().every((part, i) => part !== before[i]);
    window.took = new Promise((done, fail) => addEventListener('%(event)s', event => {
        setTimeout(() => fail(Error('no answer to %(event)s')), 20000);
        const look = () => isNew() ? requestAnimationFrame(() => done(
            performance.now() - event.timeStamp)) : requestAnimationFrame(look);
        look();
    }, {capture: true, once: true}));
}"""
"""From an event until all of some parts of the page are others, and their frame is past."""


@dataclass(frozen=True, kw_only=True)
class Deed:
    """Something that a visitor does, and how it shows that the page has answered."""

    event: str
    """Of the browser, that begins it."""
    parts: tuple[str, ...]
    """Expressions of what the answer changes, all of it."""


_SHADED = f"plotOf('{ids.FRONT}')._fullLayout.shapes.map(shape => [shape.x1, shape.y1])"
BUDGET = Deed(event="keydown", parts=(f"textOf('{ids.ANSWER}')", _SHADED))
SLIDER = Deed(event="keydown", parts=(f"document.getElementById('{ids.BUDGET}').value", _SHADED))
PLAN = Deed(
    event="mousedown",
    parts=(
        f"textOf('{ids.PLAN_TITLE}')",
        f"plotOf('{ids.LAYERS}')._fullData.map(trace => Array.from(trace.z || [], String))",
    ),
)
DOMINATED = Deed(event="click", parts=(f"plotOf('{ids.FRONT}')._fullData.length",))
_COUNT = f"textOf('{ids.PLAN_COUNT}')"
TABLE = Deed(
    event="click",
    parts=(
        _COUNT,
        f"document.querySelector('#{ids.PLANS} [row-index=\"0\"][row-id]')?.textContent",
    ),
)
BRUSH = Deed(
    event="mouseup",
    parts=(
        f"textOf('{ids.BRUSH_NOTE}')",
        _COUNT,
        f"plotOf('{ids.OTHER}')._fullData.map(trace => (trace.selectedpoints || []).length)",
    ),
)
AXIS = Deed(event="click", parts=(f"plotOf('{ids.FRONT}')._fullLayout.xaxis.title.text",))


class Probe(FrontPage):
    """A visitor who measures."""

    def first_picture(self, url: str, plans: int) -> float:
        """Open the page, and return the seconds until clouds of so many plans are drawn."""
        self.page.add_init_script(_FIRST % {"front": ids.FRONT, "plans": plans})
        self.open(url)
        return float(self.page.evaluate("() => window.firstPicture")) / 1000

    def zoom_out(self) -> None:
        """Show all plans, not those alone that are about as good as the front."""
        left, top, width, height = self.page.evaluate(_AREA, ids.FRONT)
        self.page.mouse.dblclick(left + 0.98 * width, top + 0.02 * height)
        self.page.wait_for_timeout(1000)
        self.page.locator(f"#{ids.FRONT} [data-attr=dragmode][data-val=select]").click()

    def brush_box(self, share: float) -> list[float]:
        """Draw a box over a share of the picture's height; the list gets the seconds it took."""
        left, top, width, height = self.page.evaluate(_AREA, ids.FRONT)
        self.page.mouse.move(left + 2, top + height - 2)
        self.page.mouse.down()
        self.page.mouse.move(left + width / 2, top + height / 2)
        self.page.mouse.move(left + width - 2, top + (1 - share) * height)
        with self.timed(BRUSH) as seconds:
            self.page.mouse.up()
        return seconds

    @contextmanager
    def timed(self, deed: Deed) -> Iterator[list[float]]:
        """Measure what the block does; its seconds are in the list afterwards."""
        parts = ", ".join(deed.parts)
        self.page.evaluate(_NEXT % {"parts": parts, "event": deed.event})
        seconds: list[float] = []
        yield seconds
        seconds.append(float(self.page.evaluate("() => window.took")) / 1000)


def visitor(browser: "Browser") -> Probe:
    """Return a visitor with a browser that has seen nothing yet."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    return Probe(context.new_page(), Watch(context))
