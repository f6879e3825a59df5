"""Ray that is not there, or not as it was said to be, is told of in one sentence and soon."""

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from planner.cli.main import main
from planner.settings.search import SearchSettings
from planner.settings.worker_devices import WorkerDevices
from planner.workers.backends import check_workers
from planner.workers.on_ray import ray_cluster
from planner.workers.on_ray.ray_cluster import check_answers
from search_spaces.errors import MissingExtraError, SettingsError

SOON_SECONDS = 10.0
ON_RAY = ("--workers", "ray", "--device", "cpu", "--worker_devices")


@pytest.fixture
def silent() -> Iterator[str]:
    """Address at which somebody listens who says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def other_service() -> Iterator[str]:
    """Address at which no Ray answers, but a web server."""
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def nobody() -> str:
    """Address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("kind", "got"),
    [("silent", "timed out"), ("other_service", "another service"), ("nobody", "refused")],
)
def test_an_address_that_does_not_answer_is_refused_soon(
    kind: str, got: str, request: pytest.FixtureRequest
) -> None:
    address, began = request.getfixturevalue(kind), time.monotonic()
    rule = f"`ray` must be the address of a Ray cluster that answers, got '{address}': .*{got}; "
    with pytest.raises(SettingsError, match=rule):
        check_answers(address)
    assert time.monotonic() - began < SOON_SECONDS


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "ray://head", "head:99999"])
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match=rf"`ray` must be HOST:PORT, .*, got '{address}'; "):
        check_answers(address)


def test_without_the_package_its_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "find_spec", lambda _: None)
    settings = SearchSettings.checked(model="m", workers="ray", worker_devices="2xcpu")
    with pytest.raises(MissingExtraError, match=r"`--workers ray` needs .*\[ray\]"):
        check_workers(settings)


def test_devices_of_another_kind_than_the_search_uses_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their scores would not be comparable with those of the search itself."""
    monkeypatch.setattr(ray_cluster, "find_spec", lambda _: "found")
    settings = SearchSettings.checked(
        model="m", workers="ray", worker_devices="8xcuda", device="cpu"
    )
    rule = "must be of the kind that the search computes on, cpu, got 8xcuda:1; set `--device` too"
    with pytest.raises(SettingsError, match=rule):
        check_workers(settings)


def test_places_on_a_machine_are_counted() -> None:
    assert WorkerDevices.parse("4xcpu:2").places(7, 0) == 3
    assert WorkerDevices.parse("8xcuda").places(64, 4) == 4
    assert WorkerDevices.parse("8xcuda:16").places(64, 8) == 4
    assert str(WorkerDevices.parse("8xCUDA")) == "8xcuda:1"


@pytest.mark.ray
def test_more_workers_than_this_machine_has_room_for_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    assert main(["search", "no model", "--out", out, *ON_RAY, "9999xcpu"]) == 2
    said = capsys.readouterr().err
    assert re.search(r"`worker_devices` must be there, got 9999xcpu:1, and .* has room for", said)
    assert not Path(out).exists()


@pytest.mark.ray
def test_more_workers_than_a_cluster_has_room_for_are_refused(
    ray_here: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    cores = os.cpu_count() or 1
    words = ["search", "no model", "--out", out, *ON_RAY, f"{cores + 1}xcpu", "--ray", ray_here]
    assert main(words) == 2
    rule = f"and the Ray cluster has room for {cores} of these; lower"
    assert rule in capsys.readouterr().err


@pytest.mark.ray
def test_the_command_line_says_soon_that_nobody_answers(
    silent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    words = ["search", "no model", "--out", str(tmp_path / "run"), *ON_RAY, "2xcpu"]
    assert main([*words, "--ray", silent]) == 2
    assert time.monotonic() - began < SOON_SECONDS
    (line,) = capsys.readouterr().err.splitlines()
    assert "`ray` must be the address of a Ray cluster that answers" in line
