"""Models on disk and in memory, before their structure is read."""

from typing import Literal

Offload = Literal["auto", "never", "always"]
"""Whether a model's layers stay on disk; ``auto``: if its weights do not fit into memory."""
