"""Output of `rlnet frontier`: a table, sentences, a picture, and numbers as JSON."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from rlnet.compare.frontier import frontier
from rlnet.compare.pass_rates import Distance, Estimate
from rlnet.numerics.statistics import wilson
from rlnet.report.terminal import show_files
from rlnet.report.text import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from rlnet.experiment.pass_rate_files import PassRates

FEW = 4  # samples of a prompt; fewer hardly tell how its rate differs from those of other prompts


def _text(value: float) -> str:
    return "not at any" if math.isinf(value) else f"{value:.4f}"


def show_distance(console: Console, rates: PassRates, found: Distance, files: list[Path]) -> None:
    """Print the distance from the frontier, how the intervals are made, and warnings."""
    table = Table(box=box.SIMPLE, title_justify="left", title_style="bold")
    count = "1 prompt" if len(rates.prompts) == 1 else f"{len(rates.prompts):,} prompts"
    table.title = Text(f"{count}, KL(tuned ‖ reference) = {found.kl:.4g} nats")
    for heading in ("", "value", "95 % interval"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    rows = {
        "pass rate of the reference": found.reference,
        "pass rate of the tuned policy": found.tuned,
        "largest pass rate at this KL": found.frontier,
        "gap to it": found.gap,
        "KL needed for the tuned pass rate": found.needed_kl,
    }
    for name, (value, low, high) in rows.items():
        table.add_row(name, _text(value), "exact" if low == high else f"{_text(low)} .. {_text(high)}")
    console.print(table)
    if any(low != high for _, low, high in rows.values()):
        say(
            console,
            "Intervals of the two pass rates: Wilson's, at the effective number of samples. The others: medians and "
            "quantiles of the posterior of all rates (beta-binomial over prompts). They hold for these prompts, and "
            "for the KL as given.",
        )
    for warning in warnings(rates, found):
        say(console, f"Warning: {warning}")
    show_files(console, files)


def warnings(rates: PassRates, found: Distance) -> list[str]:
    """What makes the numbers doubtful, a sentence each."""
    said = []
    if found.above:
        said.append(
            "the tuned policy lies above the frontier by more than the interval allows, which no policy can: the "
            "measured KL is too small, or the pass rates are not of these prompts and rewards."
        )
    if math.isinf(found.needed_kl.value):
        said.append("no divergence is enough for the tuned pass rate, where the reference passes as seldom as given.")
    few = rates.reference.samples
    if found.never:
        count = f"{found.never:,} of {len(rates.prompts):,} prompts"
        if few is None:
            said.append(f"{count} have a reference pass rate of 0: no policy near the reference can pass them.")
        else:
            never = rates.reference.passes == 0
            _, high = wilson(0.0, float(few[never].min()))
            said.append(
                f"{count} were never passed by the reference. Whether they can be passed is not known from the "
                f"samples: each rate may be 0 or as large as {float(high):.2g}, and was drawn like those of the others."
            )
    if few is not None and np.median(few) < FEW:
        said.append(
            f"half of the prompts have fewer than {FEW} reference samples: how much the rates differ over prompts, on "
            "which the frontier depends, is then assumed rather than measured."
        )
    return said


def as_json(rates: PassRates, found: Distance) -> dict[str, Any]:
    """The numbers as plain data: value, low, high; null where infinite."""

    def plain(x: Estimate) -> list[float | None]:
        return [value if math.isfinite(value) else None for value in x]

    prompts: list[dict[str, Any]] = [{"prompt": name} for name in rates.prompts]
    for policy, of in (("reference", rates.reference), ("tuned", rates.tuned)):
        low, high = (of.mean, of.mean) if of.samples is None else wilson(of.passes, of.samples)
        for i, row in enumerate(prompts):
            row[policy] = [float(of.mean[i]), float(low[i]), float(high[i])]
    names = ("reference", "tuned", "frontier", "gap", "needed_kl")
    return {
        "numbers": "[value, low, high]: the 95 % interval, of no width where it is exact; null: infinite",
        "kl": found.kl,
        **{name: plain(getattr(found, name)) for name in names},
        "above_frontier": found.above,
        "reference_never_passed": found.never,
        "warnings": warnings(rates, found),
        "prompts": prompts,
    }


def frontier_figure(rates: PassRates, found: Distance) -> Figure:
    """The frontier of the rates as they were counted, the tuned policy, and the largest pass rate at its divergence."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    p = np.clip(rates.reference.mean, 0.0, 1.0)
    _, kl, best = frontier(np.tile([0.0, 1.0], (len(p), 1)), np.stack([1 - p, p], 1), rates.weight)
    counted = "" if rates.reference.samples is None else ", from the rates as counted"
    axes.plot(kl, best, color="#303030", linewidth=1.5, label=f"the most that any policy can pass{counted}")
    points = (("tuned policy", found.tuned, "o"), ("largest pass rate at its KL", found.frontier, "^"))
    for name, (value, low, high), marker in points:
        axes.errorbar([found.kl], [value], [[max(value - low, 0)], [max(high - value, 0)]], fmt=marker, label=name)
    axes.set_xlabel("KL(π ‖ π_ref), nats")
    axes.set_ylabel("pass rate")
    axes.grid(color="#e0e0e0", linewidth=0.6)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    return figure
