"""The command that serves the page: where it does, and how it ends."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from flask import Flask

from planner.browse.server import Place, serve
from planner.cli.main import main
from search_spaces.errors import SettingsError
from tests.planner.cli.commands import refused


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [(signal.SIGINT, 0, ""), (signal.SIGTERM, 128 + 15, "planner: stopped\n")],
)
def test_a_page_is_served_until_it_is_ended(
    two_runs: Path,
    capsys: pytest.CaptureFixture[str],
    ending: signal.Signals,
    status: int,
    said: str,
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "planner", "browse", str(two_runs), f"--port={port}"]
    arguments = [*command, "--no_browser"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            assert server.stderr.readline().startswith(f"http://127.0.0.1:{port} ")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=20) as page:
                assert b"Compression planner" in page.read()
            told = refused(capsys, "browse", str(two_runs), f"--port={port}", "--no_browser")
            assert f"{port} is in use; choose another such as `--port {port + 1}`" in told
            server.send_signal(ending)
            assert server.wait(20) == status
            assert server.stderr.read() == said
        finally:
            server.kill()


def test_other_machines_need_a_token(two_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    answers: list[int] = []

    class Server:
        def __init__(self, app: Flask, **place: object) -> None:
            assert place["max_request_body_size"] == 4 * 2**20  # read before the token is asked
            self.app = app

        def run(self) -> None:
            client = self.app.test_client()
            address = told[-1]
            answers.append(client.get("/").status_code)
            answers.append(client.get(address[address.index("/?") :]).status_code)
            answers.append(client.get("/").status_code)

        def close(self) -> None:
            pass

    monkeypatch.setattr("waitress.server.create_server", Server)
    serve(two_runs, Place(host="0.0.0.0", port=free_port()), told.append, opens=False)
    serve(
        two_runs, Place(host="127.0.0.1", port=free_port(), token="abc"), told.append, opens=False
    )
    assert re.match(r"http://0\.0\.0\.0:\d+/\?token=", told[0])
    assert len(told[0].partition("=")[2]) >= 32
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=abc", told[1])
    assert answers == [403, 302, 200] * 2


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (Place(port=0), "`--port` must be from 1 to 65535, got 0"),
        (Place(port=70000), "got 70000"),
        (Place(token=""), "`--token` must be made of"),
        (Place(token="a b"), "`--token` must be made of"),
        (Place(host="no.such.host.invalid"), "`--host` must be an address of this machine"),
    ],
)
def test_a_place_that_is_none_is_refused(two_runs: Path, place: Place, said: str) -> None:
    with pytest.raises(SettingsError, match="must") as caught:
        serve(two_runs, place, print, opens=False)
    assert said in str(caught.value)


def test_a_missing_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "must be a folder with runs" in refused(capsys, "browse", str(tmp_path / "none"))


def test_a_missing_package_is_named(
    two_runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert main(["browse", str(two_runs)]) == 2
    assert "compression-planner[browse]" in capsys.readouterr().err
