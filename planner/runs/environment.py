"""The environment of a run: code, packages, machine."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import psutil


def describe_environment(*, device: str, seed: int) -> dict[str, object]:
    """Return what another machine would need to know to repeat a run."""
    # loads torch, which reading a run can do without
    from evaluators.runtime.device import (  # noqa: PLC0415
        is_bfloat16_faster,
        processor_name,
    )

    return {
        "git": _git_state(Path(__file__).resolve().parents[2]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": processor_name(),
        "bfloat16_is_faster": is_bfloat16_faster(),
        "core_count": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "device": device,
        "seed": seed,
        "packages": _package_versions(),
    }


def _git_state(checkout: Path) -> dict[str, object] | None:
    """Return commit and dirty flag, or `None` if the planner is installed and not checked out."""
    root = _git(checkout, "rev-parse", "--show-toplevel")
    commit = _git(checkout, "rev-parse", "HEAD")
    if root is None or commit is None or Path(root).resolve() != checkout:
        return None
    return {"commit": commit, "dirty": bool(_git(checkout, "status", "--porcelain"))}


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        completed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return completed.stdout.strip()


def _package_versions() -> dict[str, str]:
    """Return the versions of all installed packages, so that no list of them can go stale."""
    versions = {package.name: package.version for package in metadata.distributions()}
    return dict(sorted(versions.items(), key=lambda item: item[0].lower()))
