"""A process of its own in which vLLM serves one export: what it computes goes into a file."""

import sys
from pathlib import Path

import numpy as np

from tests.vllm import WRITTEN


def main() -> None:
    """Serve a folder, and save the logits of some tokens, and what it writes after the first."""
    from planner.targets.deci.vllm_runtime import serving

    folder, tokens_file, out = map(Path, sys.argv[1:])
    tokens = np.load(tokens_file)
    with serving(folder, threads=2, dtype="float32") as served:
        np.savez(
            out,
            logits=served.logits(tokens),
            stepped=served.stepped_logits(tokens),
            written=served.greedy(tokens[0].tolist(), WRITTEN),
        )


if __name__ == "__main__":
    main()
