"""Reports on token policies: exact numbers per prompt, likeliest completions, reward-divergence frontier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlnet.compare.completions import Completions
from rlnet.compare.frontier import best_of_n, frontier, tilted
from rlnet.report.curves import STYLES, by_member

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from rlnet.mdp import FiniteMDP

MOST_PROMPTS = 20  # rows of a table
LIKELIEST = 8  # completions that are shown
BEST_OF = (2, 4, 16, 64, 256)  # completions of which the best is taken
MOST_MEMBERS = 16  # paths in a picture
Table = tuple[list[str], list[list[str]]]  # head, rows


def prompt_names(mdp: FiniteMDP, known: Completions) -> list[str]:
    """The prompts as texts; an empty one is named."""
    return [repr(str(name)[:-1]) for name in np.array(mdp.labels)[:: known.each]]


def per_prompt(mdp: FiniteMDP, known: Completions, policy: np.ndarray) -> Table:
    """A row for each prompt; of many, those with the smallest expected reward."""
    found = known.per_prompt(policy)
    order = np.argsort(found["exact/reward"], kind="stable")[:MOST_PROMPTS]
    names = prompt_names(mdp, known)
    rows = [[names[p], *(f"{values[p]:.4g}" for values in found.values())] for p in sorted(order)]
    return ["prompt", *(name.removeprefix("exact/") for name in found)], rows


def likeliest(mdp: FiniteMDP, known: Completions, policies: Mapping[str, np.ndarray]) -> Table:
    """The completions that the first of some policies [S, A] writes most often, with their probabilities under all."""
    weights = {name: (known.reached(policy) * known.ends).reshape(-1) for name, policy in policies.items()}
    first = next(iter(weights.values()))
    rows = []
    labels, symbols = mdp.labels or (), mdp.action_labels or ()
    for place in np.argsort(-first, kind="stable")[:LIKELIEST]:
        state, action = divmod(int(place), known.symbols + 1)
        text = labels[state] + (symbols[action] if action < known.symbols else "")
        prompt, _, completion = text.rpartition("›")
        numbers = [f"{weight[place]:.3g}" for weight in weights.values()]
        rows.append([f"{prompt}›{completion}", *numbers, f"{known.true.reshape(-1)[place]:g}"])
    return ["completion", *weights, "reward"], rows


def policies_of(values: Mapping[str, np.ndarray], m: int, optimum: str) -> dict[str, np.ndarray]:
    """The policies of values.npz that are set side by side: learned, reference, optimal."""
    found = {"learned π": values["pi"][m]}
    if "pi_reference" in values:
        found["reference"] = values["pi_reference"]
    return found | {optimum: values["pi_exact"][m]}


def show_completions(
    console: Console, mdp: FiniteMDP, known: Completions, values: Mapping[str, np.ndarray], m: int, note: str
) -> None:
    """Print what the member m of a run writes."""
    from rich import box
    from rich.table import Table as Rich
    from rich.text import Text

    parts = {
        f"each prompt{note}": per_prompt(mdp, known, values["pi"][m]),
        f"the likeliest completions{note}": likeliest(mdp, known, policies_of(values, m, "optimal π*")),
    }
    for title, (head, rows) in parts.items():
        table = Rich(title=Text(title), box=box.SIMPLE, title_justify="left", title_style="bold")
        for k, name in enumerate(head):
            table.add_column(name, justify="left" if k == 0 else "right")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)


def frontier_figure(known: Completions, rows: Sequence[Mapping[str, Any]]) -> Figure:
    """The exact frontier of reward against divergence, and the paths of the members during training.

    For comparison, two exact samplers from the reference: the best of n completions, and rejection sampling of only
    those that earn the most (what rejection fine-tuning imitates).

    Args:
        known: the task, with a reference policy.
        rows: of metrics.csv.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    _, kl, reward = frontier(*known.problem)
    axes.plot(kl, reward, color="#303030", linewidth=1.8, label="the most that any policy can earn")
    sampled = [best_of_n(*known.problem, n) for n in BEST_OF]
    x, y = [point.kl for point in sampled], [point.reward for point in sampled]
    axes.plot(x, y, "s", color="#009e73", markersize=5, label="the best of n of the reference, exact")
    room = 0.04 * kl[-1]  # for a number beside a point
    for k, (n, point) in enumerate(zip(BEST_OF, sampled, strict=True)):
        if k > 0 and point.kl - sampled[k - 1].kl < room:
            break
        axes.annotate(str(n), (point.kl, point.reward), (3, -9), textcoords="offset points", fontsize=7)
    only = tilted(*known.problem, 0.0)
    axes.plot([only.kl], [only.reward], "*", color="#7a5c00", markersize=9, label="rejection: its best rewards alone")
    _, far = by_member(rows, "exact/kl")
    _, earned = by_member(rows, "exact/reward")
    for m, (x, y) in enumerate(zip(far[:MOST_MEMBERS], earned[:MOST_MEMBERS], strict=True)):
        seen = np.isfinite(x) & np.isfinite(y)
        label = "this run, over training" if m == 0 else None
        axes.plot(x[seen], y[seen], ".-", color=STYLES[0][0], linewidth=0.8, markersize=4, label=label)
        axes.plot(x[seen][-1:], y[seen][-1:], "o", color=STYLES[1][0], label="at its end" if m == 0 else None)
    axes.set_xlabel("KL(π ‖ π_ref), nats")
    axes.set_ylabel("E[R]")
    axes.set_title("reward against divergence from the reference", fontsize=10)
    axes.grid(color="#e0e0e0", linewidth=0.6)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    return figure
