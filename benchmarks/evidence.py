"""The demo's figures in README.md: written from results/smollm2-135m/front.json, held by a test.

`make evidence` runs the demo, keeps its figures there and rewrites the block of README.md between
its two marks.
"""

import json
import math
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "results" / "smollm2-135m" / "front.json"
PRINTED = FIGURES.with_name("demo.txt")
README = ROOT / "README.md"
MARKS = ("<!-- demo -->", "<!-- /demo -->")
NEARLY_UNHARMED = 0.1
"""KL on the search text of the gentler of the two rows, in nats a token."""


def block(figures: dict[str, Any], printed: str) -> str:
    """Lay out what the demo measured, for README.md, marks left out.

    Args:
        figures: Those of the demo's ``front.json``.
        printed: What the demo printed, of which the verdicts are quoted.
    """
    plans, latency = figures["plans"], figures["latency"]
    dense, pruned, uniform = (plans[n] for n in ("dense", "pruned", "uniform"))
    within = [row for row in figures["front"] if row["kl"] <= NEARLY_UNHARMED]
    gentle = min(within, key=lambda row: (row["params"], row["kl"]))
    hard = next(row for row in figures["front"] if row["plan_id"] == pruned["plan_id"])
    share = f"{uniform['costs']['params'] / dense['costs']['params']:.2f}x"
    rows = [
        _row(f"kl<={NEARLY_UNHARMED}", gentle, "–"),
        _row(
            figures["budget"],
            hard,
            f"{_kl(uniform['holdout']['kl'])}, perplexity {uniform['perplexity']:.1f}, at {share}",
        ),
    ]
    machine, speeds = figures["environment"], (latency["pruned"], latency["dense"])
    smaller_ms, dense_ms = (f"{speed['prefill_ms']:.0f} ms" for speed in speeds)
    opening = (
        f"`make demo` took {figures['seconds'] / 60:.1f} minutes and "
        f"{figures['peak_resident_bytes'] / 2**30:.1f} GiB on {machine['core_count']} cores "
        f"({machine['cpu']}). The dense model has {dense['costs']['params'] / 1e6:.1f}M "
        f"parameters, {dense['costs']['size'] / 1e6:.0f} MB and held-out perplexity "
        f"{dense['perplexity']:.1f}; the front answers:"
    )
    closing = (
        "KL is the divergence from the dense model in nats a token; held-out is the honest "
        f"figure. The smaller plan takes {pruned['costs']['size'] / 1e6:.0f} MB, and {smaller_ms} "
        f"for a prefill of 128 tokens (dense: {dense_ms}). Losing a fifth untrained hurts a model "
        "this small."
    )
    verdicts = printed[printed.index("\nwithin ") + 1 :].partition("\n\n")[0].splitlines()
    head = "| budget | best plan | KL, search | KL, held-out | perplexity | uniform pruning |"
    table = [head, "|---|---|---|---|---|---|", *rows]
    quoted = ["`search` ends with", "", *(f"    {line}" for line in verdicts)]
    parts = [textwrap.fill(opening, 110), "", *table, "", textwrap.fill(closing, 110), "", *quoted]
    return "\n".join(parts)


def committed() -> str:
    """Return the block that README.md holds."""
    return README.read_text(encoding="utf-8").split(MARKS[0])[1].split(MARKS[1])[0].strip("\n")


def main() -> int:
    """Rewrite README.md; gives the exit status."""
    before, _, rest = README.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    shown = block(figures, PRINTED.read_text(encoding="utf-8"))
    text = f"{before}{MARKS[0]}\n{shown}\n{MARKS[1]}{after}"
    README.write_text(text, encoding="utf-8")
    return 0


def _row(budget: str, plan: dict[str, Any], uniform: str) -> str:
    held_out = {"value": plan["holdout_kl"], "standard_error": plan["holdout_kl_se"]}
    perplexity = math.exp(plan["holdout_nll"])
    return (
        f"| `{budget}` | {plan['params'] / 1e6:.1f}M, {plan['params_x']:.2f}x | {plan['kl']:.3f} "
        f"| {_kl(held_out)} | {perplexity:.1f} | {uniform} |"
    )


def _kl(measured: dict[str, float]) -> str:
    return f"{measured['value']:.3f} ± {measured['standard_error']:.3f}"


if __name__ == "__main__":
    sys.exit(main())
