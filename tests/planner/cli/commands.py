"""Commands of a small search, and mistakes in them."""

import pytest

from planner.cli.main import main
from tests.settings import SMALL

OPTIONS = [f"--{name}={value}" for name, value in SMALL.items()]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail as a user's mistake; give its one message."""
    assert main(list(arguments)) == 2
    message = capsys.readouterr().err
    lines = [line for line in message.splitlines() if line.startswith("planner: ")]
    assert len(lines) == 1
    assert "Traceback" not in message
    return lines[0]
