import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from planner.runs import environment


def test_the_environment_names_code_packages_and_machine() -> None:
    found = environment.describe_environment(device="cpu", seed=5)
    json.dumps(found)
    assert (found["device"], found["seed"]) == ("cpu", 5)
    assert found["python"] == platform.python_version()
    packages = found["packages"]
    assert isinstance(packages, dict)
    assert packages["numpy"] == metadata.version("numpy")
    assert isinstance(found["memory_bytes"], int)


def test_git_is_read_of_the_planners_own_checkout_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = ["-c", "user.name=a", "-c", "user.email=a@b"]
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, *name, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    (tmp_path / "planner" / "runs").mkdir(parents=True)
    monkeypatch.setattr(
        environment, "__file__", str(tmp_path / "planner" / "runs" / "environment.py")
    )
    found = environment.describe_environment(device="cpu", seed=0)["git"]
    assert isinstance(found, dict)
    assert len(found["commit"]) == 40
    assert found["dirty"] is False
    (tmp_path / "new.txt").write_text("")
    found = environment.describe_environment(device="cpu", seed=0)["git"]
    assert isinstance(found, dict)
    assert found["dirty"] is True
    installed = tmp_path / "lib" / "planner" / "runs" / "environment.py"
    monkeypatch.setattr(environment, "__file__", str(installed))
    assert environment.describe_environment(device="cpu", seed=0)["git"] is None
