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
    plans, latency, small = figures["plans"], figures["latency"], figures["small"]
    dense, pruned = plans["dense"], plans["pruned"]
    within = [row for row in figures["front"] if row["kl"] <= NEARLY_UNHARMED]
    gentle = min(within, key=lambda row: (row["params"], row["kl"]))
    rows = [
        _row(f"kl<={NEARLY_UNHARMED}", _of_front(gentle), "–"),
        _row(
            figures["budget"],
            _of_plan(pruned, _share("params", pruned, dense)),
            _uniform(plans, "params", dense),
        ),
        _row(
            small["budget"],
            _of_plan(small["plans"]["best"], _share("size", small["plans"]["best"], dense)),
            _uniform(small["plans"], "size", dense),
        ),
    ]
    machine, speeds = figures["environment"], (latency["pruned"], latency["dense"])
    smaller_ms, dense_ms = (f"{speed['prefill_ms']:.0f} ms" for speed in speeds)
    opening = (
        f"`make demo` took {figures['seconds'] / 60:.1f} minutes and "
        f"{figures['peak_resident_bytes'] / 2**30:.1f} GiB on {machine['core_count']} cores "
        f"({machine['cpu']}). The dense model has {dense['costs']['params'] / 1e6:.1f}M "
        f"parameters, {dense['costs']['size'] / 1e6:.0f} MB and held-out perplexity "
        f"{dense['perplexity']:.1f}. Its answers:"
    )
    closing = (
        "KL is the divergence from the dense model, in nats a token; held-out is honest. "
        f"The second plan takes {pruned['costs']['size'] / 1e6:.0f} MB, and {smaller_ms} "
        f"for a prefill of 128 tokens (dense: {dense_ms}). The last is a GGUF file "
        f"({_formats(small['formats'])}), and runs: `{small['run_line']}`."
    )
    verdicts = printed[printed.index("\nagainst ") + 1 :].partition("\n\n")[0].splitlines()
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


def _row(budget: str, cells: list[str], uniform: str) -> str:
    return f"| `{budget}` | {' | '.join(cells)} | {uniform} |"


def _of_front(row: dict[str, Any]) -> list[str]:
    """Return the cells of a row of the front."""
    held_out = {"value": row["holdout_kl"], "standard_error": row["holdout_kl_se"]}
    amount = f"{row['params'] / 1e6:.1f}M, {row['params_x']:.2f}x"
    return [amount, f"{row['kl']:.3f}", _kl(held_out), f"{math.exp(row['holdout_nll']):.1f}"]


def _of_plan(plan: dict[str, Any], amount: str) -> list[str]:
    """Return the cells of a plan that the demo compares by name."""
    held_out = _kl(plan["holdout"]["kl"])
    return [amount, f"{plan['search_kl']:.3f}", held_out, f"{plan['perplexity']:.1f}"]


def _share(cost: str, plan: dict[str, Any], dense: dict[str, Any]) -> str:
    """Return what a plan costs, and its share of the dense model's."""
    amount, unit = plan["costs"][cost] / 1e6, "M" if cost == "params" else " MB"
    return f"{amount:.1f}{unit}, {plan['costs'][cost] / dense['costs'][cost]:.2f}x"


def _uniform(plans: dict[str, Any], cost: str, dense: dict[str, Any]) -> str:
    """Return what the uniform plan comes to, if there is one within the budget."""
    plan = plans.get("uniform")
    if plan is None:
        return "–"
    share = plan["costs"][cost] / dense["costs"][cost]
    return f"{_kl(plan['holdout']['kl'])} at {share:.2f}x"


def _formats(counts: dict[str, int]) -> str:
    """Return how many components are in which number format, in words."""
    words = [
        f"{count} {'as they came' if name == 'source' else f'in {name}'}"
        for name, count in counts.items()
    ]
    return f"components: {', '.join(words)}"


def _kl(measured: dict[str, float]) -> str:
    return f"{measured['value']:.3f} ± {measured['standard_error']:.3f}"


if __name__ == "__main__":
    sys.exit(main())
