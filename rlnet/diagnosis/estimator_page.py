"""The page of `rlnet audit algo=...`: which gradient an update is, row by row in words, on one page without network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlnet.diagnosis.estimator_audit import (
    ARCSINE,
    FORWARD,
    IMITATION,
    PREFERENCES,
    REGULARISED,
    REWARD,
    EstimatorAudit,
)
from rlnet.diagnosis.estimator_table import how_many, noise, resampling, verdict
from rlnet.diagnosis.objectives import Match
from rlnet.experiment.run_files import write_text
from rlnet.experiment.run_folder import commands
from rlnet.report.html import embedded, render, versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = "estimator.html"
OBJECTIVES = {
    REWARD: "the policy gradient: what is learned where nothing else is asked for",
    REGULARISED: "reward less β times the divergence from the reference; its optimum is π* ∝ π_ref·exp(R/β)",
    FORWARD: "the same with the forward divergence, which punishes what the reference writes and π no longer does",
    ARCSINE: "a function of each prompt's pass rate p, by which prompts that nearly always or hardly ever pass "
    "count for more. Advantages over the deviation of a group tend to its gradient as groups grow (rewards 0 and 1)",
    PREFERENCES: "how far the preferences that π implies, by β·log π/π_ref, are from those that the reward gives, over "
    "pairs of the reference; least at π* ∝ π_ref·exp(R/β)",
    IMITATION: "how far π is from the law of the best of a group: the aim of imitating it",
    "−KL(π‖π_ref)": "the divergence that the objective means",
    "−KL(π_ref‖π)": "the forward divergence: the same optimum without a reward, another pull with one",
}
CHOICES = {
    "advantage=mean": "return less the mean of the group, which holds the completion itself: exact, times (G − 1)/G",
    "advantage=std": "return less the mean of the group, over its deviation: no gradient of E[R]",
    "advantage=loo": "return less the mean of the others: exact",
    "length=sum": "the sum over tokens is log π of the completion: exact",
    "length=mean": "each completion over its own length: short ones push harder, which no objective asks for",
    "length=constant": "over the longest possible length: exact, times 1/L",
    "length=batch": "over all tokens of the batch, where a long completion weighs down the others: not exact",
    "kl=k1": "d = log π − log π_ref. In the reward it is exact; in the loss its expected gradient is 0",
    "kl=k2": "d²/2. Of sequences in the loss its gradient is that of KL(π‖π_ref), exactly",
    "kl=k3": "e^−d − 1 + d. Of sequences in the loss its gradient is that of the forward KL(π_ref‖π), exactly; of "
    "tokens it is neither",
    "kl=ratio_k3": "π/π_old·k3: at the first step it has the gradient of k2",
    "kl_of=token": "estimated at every token: in the loss, what a token does to that of later ones is left out",
    "kl_of=sequence": "estimated of the completion as a whole",
    "kl_in=reward": "subtracted from the reward, before advantages are taken",
    "kl_in=loss": "added to the loss, and differentiated where it stands",
    "ratio=token": "clipped token by token; at the first step every ratio is 1 and nothing is clipped",
    "ratio=sequence": "clipped as a whole; at the first step the same",
    "sampler=policy": "the groups are those of π, which is imitated at its best",
    "sampler=reference": "the groups are those of π_ref: best-of-n sampling is distilled",
    "positive=True": "groups in which nothing is earned do not count",
}
KL = ("kl", "kl_of", "kl_in")


def write_estimator(folder: Path, audit: EstimatorAudit, task: str) -> Path:
    """Write the page into the folder of an audit; returns its path."""
    path = folder / FILE
    write_text(path, render("estimator.html", _context(folder, audit, task)))
    return path


def _context(folder: Path, audit: EstimatorAudit, task: str) -> dict[str, Any]:
    chosen = [f"{name}={value}" for name, value in audit.options.items() if name not in KL or audit.of_kl]
    return {
        "title": f"Is my {audit.algo} the gradient I think it is?",
        "subtitle": f"{audit.algo} on {task}, groups of {audit.group}, β = {audit.beta:g}",
        "verdict": verdict(audit),
        "batch": audit.batch,
        "how": how_many(audit),
        "rows": _rows(audit.matches),
        "of_kl": _rows(audit.of_kl),
        "noise": noise(audit),
        "picture": embedded(
            angles_figure(list(audit.matches.items()), "the expected update"),
            "angles between the expected update and exact gradients",
        ),
        "choices": [(name, CHOICES[name]) for name in chosen if name in CHOICES],
        "resampling": resampling(audit),
        "commands": [str(start["command"]) for start in commands(folder)[-1:]],
        "versions": versions(),
        "configurations": [],
    }


def _rows(matches: Mapping[str, Match]) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "cosine": f"{match.cosine:.6f}" + (f" ± {match.cosine_error:.1g}" if match.cosine_error > 1e-12 else ""),
            "scale": f"{match.scale:.6g}",
            "words": OBJECTIVES[name],
        }
        for name, match in matches.items()
    ]


def angles_figure(bars: Sequence[tuple[str, Match]], to: str, width: float = 6.4) -> Figure:
    """A bar for each match: the angle between an update and a gradient, in degrees.

    Args:
        bars: names and matches.
        to: what the angles are measured to.
        width: of the figure, in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 0.8 + 0.42 * len(bars)), dpi=100, layout="constrained")
    axes = figure.subplots()
    angles, places = [match.angle for _, match in bars], range(len(bars))
    drawn = axes.barh(places, angles, color="#0072b2", height=0.55)
    axes.set_yticks(places, [name for name, _ in bars], fontsize=7 if any("\n" in name for name, _ in bars) else None)
    axes.bar_label(drawn, [f"{x:.2f}°" for x in angles], padding=4, fontsize=8)
    axes.set_xlim(0, max(1.0, 1.15 * max(angles)))
    axes.invert_yaxis()
    axes.set_xlabel(f"angle to {to}, degrees")
    axes.grid(axis="x", color="#e0e0e0", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure
