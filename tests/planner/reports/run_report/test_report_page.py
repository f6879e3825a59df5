"""The page of a run: whole, alone, and harmless whatever a run is called."""

import json
import re
import shlex
import shutil
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from planner.cli.main import command_parser
from planner.export.cards.manifest import Manifest
from planner.reports.run_report.report_page import report_page
from planner.run import Run
from planner.settings.search import SETTINGS_FILE
from search_spaces.models.identity import ModelIdentity
from tests.planner.export.cards.manifests import MANIFEST

MOST_BYTES = 6_000_000
_FIGURES = re.compile(r'<script type="application/json" id="figures">(.*?)</script>', re.DOTALL)


class Page(HTMLParser):
    """The elements of a page, the attributes that lead elsewhere, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self._is_code = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._is_code = tag in {"script", "style"}
        self.links += [str(value) for name, value in attrs if name in {"src", "href", "action"}]

    def handle_endtag(self, tag: str) -> None:
        self._is_code = False

    def handle_data(self, data: str) -> None:
        if not self._is_code:
            self.texts.append(data)


@pytest.fixture(scope="module")
def run(searched: Path) -> Run:
    return Run.open(searched, live=False)


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return report_page(run)


def figures(page: str) -> dict[str, dict[str, dict[str, object]]]:
    found = _FIGURES.search(page)
    assert found is not None
    read: dict[str, dict[str, dict[str, object]]] = json.loads(found[1])
    return read


def test_it_is_one_file_that_asks_for_nothing(page: str) -> None:
    assert len(page.encode()) < MOST_BYTES
    assert Page(page).links == []
    assert "default-src 'none'" in page
    assert not re.search(r"@import|url\((?!data:)", page.partition("</style>")[0])
    assert "showSendToCloud: false" in page  # Plotly has a button for that, and shows it


def test_it_holds_the_answer_the_front_and_a_picture_of_each_plan(page: str, run: Run) -> None:
    text = "\n".join(Page(page).texts)
    best, knee = run.best("params<=0.8x"), run.knee()
    assert f"plan {best.plan_id}: " in text
    for plan_id in run.front()["plan_id"]:
        assert plan_id in text
    assert knee is not None
    assert {"front", "growth", f"layers-{best.plan_id}", f"layers-{knee.plan_id}"} <= set(
        figures(page)
    )
    assert all(set(themes) == {"light", "dark"} for themes in figures(page).values())
    assert set(re.findall(r'data-figure="([^"]+)"', page)) == set(figures(page))
    for word in ("wanda", "uniform plan", "additive plan", "Spearman", "hypervolume"):
        assert word in text


def test_its_commands_can_be_typed(page: str, run: Run) -> None:
    found = re.findall(r"<pre><code>(.*?)</code>", page)
    commands = [shlex.split(unescape(command)) for command in found]
    assert [words[1] for words in commands] == ["search", "front", "show", "export", "export"]
    for words in commands:
        command_parser(words[1]).options(words[2:])
    given = command_parser("search").options(commands[0][2:])
    assert given.budget == str(run.settings.budget)


def test_whatever_comes_from_a_run_is_text(searched_copy: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    settings = searched_copy / SETTINGS_FILE
    text = settings.read_text(encoding="utf-8")
    settings.write_text(re.sub("^model: .*", f"model: '{evil}'", text, flags=re.M))
    (searched_copy / "environment.json").write_text(
        json.dumps({evil: evil, "packages": {evil: 1}})
    )
    folder = Path(shutil.move(searched_copy, searched_copy.parent / "<b>run"))
    page = report_page(Run.open(folder, live=False))
    parsed = Page(page)
    assert parsed.tags.count("script") == 3
    assert not {"img", "b"} & set(parsed.tags)
    assert evil in "".join(parsed.texts)
    figures(page)


def test_what_is_damaged_beside_the_run_takes_nothing_down(searched_copy: Path) -> None:
    (searched_copy / "environment.json").write_bytes(b"\xff[")
    (searched_copy / "space.json").unlink()
    page = report_page(Run.open(searched_copy, live=False))
    assert "environment.json</th><td>cannot be read" in page
    assert "space.json` must say" in page
    assert set(figures(page)) == {"front", "growth"}


def test_measured_exports_are_told(searched_copy: Path) -> None:
    with Run.open(searched_copy, live=False) as run:
        best, model = run.best("params<=0.8x").plan_id, run.metadata.model
        assert model is not None
        names = ModelIdentity.model_fields
        known = {name: value for name, value in model.model_dump().items() if name in names}
        identity = ModelIdentity.model_validate(known)
        export = searched_copy / "model"
        export.mkdir()
        told = MANIFEST.model_copy(update={"plan_id": best, "model": identity})
        (export / "manifest.json").write_text(told.model_dump_json(), encoding="utf-8")
        text = "\n".join(Page(report_page(run)).texts)
    assert isinstance(told, Manifest)
    assert "1.11× decode throughput in torch" in text  # 10 ms and 9 ms
    assert str(export) in text
