"""What is free is the machine's or the container's, whichever is less."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from search_spaces.models.memory import available_bytes

MACHINE = 10_000


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=MACHINE))


def limit(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def test_without_a_limit_it_is_the_machines(tmp_path: Path) -> None:
    assert available_bytes("cpu", tmp_path) == MACHINE
    limit(tmp_path, {"memory.max": "max\n", "memory.current": "500\n", "memory.stat": "anon 1\n"})
    assert available_bytes("cpu", tmp_path) == MACHINE


@pytest.mark.parametrize(("most", "expected"), [(3000, 2300), (90_000, MACHINE)])
def test_a_container_counts_what_it_uses_and_cannot_give_back(
    most: int, expected: int, tmp_path: Path
) -> None:
    stat = "anon 600\ninactive_file 200\n"
    files = {"memory.max": f"{most}\n", "memory.current": "900\n", "memory.stat": stat}
    limit(tmp_path, files)
    assert available_bytes("cpu", tmp_path) == expected


def test_containers_of_the_first_version(tmp_path: Path) -> None:
    limit(
        tmp_path,
        {
            "memory/memory.limit_in_bytes": "3000\n",
            "memory/memory.usage_in_bytes": "900\n",
            "memory/memory.stat": "cache 300\ntotal_inactive_file 100\n",
        },
    )
    assert available_bytes("cpu", tmp_path) == 2200
