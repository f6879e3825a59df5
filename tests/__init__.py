"""Tests; none reaches the network or writes outside its own folders."""

import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""

# read when transformers is imported: code bundled with exports is copied there
_SCRATCH = tempfile.TemporaryDirectory(prefix="compression-planner-tests-")
os.environ.setdefault("HF_MODULES_CACHE", f"{_SCRATCH.name}/modules")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
