"""Tests; none reaches the network or writes outside its own folders."""

import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""

TORCH_THREADS = int(os.environ.get("TEST_TORCH_THREADS", "1"))
# read when torch is imported, here and in the processes that tests start
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = str(TORCH_THREADS)
os.environ["OMP_WAIT_POLICY"] = "passive"  # a thread without work leaves the core to others

# read when transformers is imported: code bundled with exports is copied there
_SCRATCH = tempfile.TemporaryDirectory(prefix="compression-planner-tests-")
os.environ.setdefault("HF_MODULES_CACHE", f"{_SCRATCH.name}/modules")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
