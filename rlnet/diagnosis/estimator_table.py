"""The table of `rlnet audit algo=...`: which gradient an update is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from rlnet.diagnosis.estimator_audit import EstimatorAudit
from rlnet.diagnosis.objectives import Match
from rlnet.report.terminal import show_files
from rlnet.report.text import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

MOST_PROMPTS = 8
SAME = 1e-9  # how near to 1 a cosine is called exact


def show_estimator(console: Console, audit: EstimatorAudit, title: str, files: list[Path]) -> None:
    """Print the expected update beside exact gradients, and what it says in a sentence."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), box=box.SIMPLE, title_justify="left", title_style="bold")
    for name in ("gradient of", "cosine", "scale"):
        table.add_column(name, justify="left" if name == "gradient of" else "right")
    parts: list[tuple[str, Mapping[str, Match]]] = [("", audit.matches), (", of the KL term alone", audit.of_kl)]
    for what, matches in parts:
        for name, match in matches.items():
            error = f" ± {match.cosine_error:.1g}" if match.cosine_error > 1e-12 else ""
            table.add_row(Text(name + what), f"{match.cosine:.6f}{error}", f"{match.scale:.6g}")
    console.print(table)
    options = ", ".join(f"{name}={value}" for name, value in audit.options.items())
    say(console, f"{audit.batch} {how_many(audit)}")
    say(console, f"{options or 'no options'}; β = {audit.beta:g}.")
    say(console, noise(audit))
    for sentence in resampling(audit):
        say(console, sentence)
    say(console, verdict(audit))
    show_files(console, files)


def how_many(audit: EstimatorAudit) -> str:
    """How many groups were looked at, and whether that is all of them."""
    if audit.exact:
        return f"All {audit.groups:,} groups were enumerated."
    return f"Each completion was enumerated, its partners were sampled: {audit.groups:,} groups."


def noise(audit: EstimatorAudit) -> str:
    """How much the update of one group varies."""
    if not math.isfinite(audit.noise):
        return "The mean update is 0, so that there is no length to compare the update of one group with."
    return f"One group's update deviates from the mean by {audit.noise:.2g} times its length along it."


def verdict(audit: EstimatorAudit) -> str:
    """The verdict: the objective whose gradient the update follows."""
    same = [name for name, match in audit.matches.items() if abs(match.cosine - 1) < SAME]
    if same:
        match = audit.matches[same[0]]
        size = "" if abs(match.scale - 1) < SAME else f", times {match.scale:.6g}"
        text = f"The expected update is the gradient of {same[0]}{size}."
    elif all(match.cosine == 0 for match in audit.matches.values()):
        text = "The expected update is 0: by it nothing is learned."
    else:
        name, match = max(audit.matches.items(), key=lambda item: item[1].cosine)
        near = f"the nearest is {name}, at a cosine of {match.cosine:.4f}"
        text = f"The expected update is the gradient of none of these; {near}."
    term = [name for name, match in audit.of_kl.items() if abs(match.cosine - 1) < SAME]
    if term:
        return f"{text} Its KL term is the gradient of {term[0]}."
    if audit.of_kl and all(match.cosine == 0 for match in audit.of_kl.values()):
        return f"{text} Its KL term has no effect: its expectation is 0."
    return text


def resampling(audit: EstimatorAudit) -> list[str]:
    """What drawing groups of equal rewards again does to the expected update; nothing where none are."""
    again = int(audit.options.get("resample", 0))
    if again == 0 or not audit.equal:
        return []
    q = sum(audit.equal) / len(audit.equal)
    times = sum(q**k for k in range(again + 1))
    shares = [(1 - own) * times + own * q**again for own in audit.equal]
    few = ", ".join(f"{share:.3g}" for share in shares[:MOST_PROMPTS]) + (", ..." if len(shares) > MOST_PROMPTS else "")
    return [
        f"Groups in which all earn the same ({100 * q:.3g} %) are drawn again, {again} times at most: of the groups "
        f"that are learned from, prompts make up {few} times the share that they have among all prompts. Groups of "
        f"equal rewards have no advantages, so that by this the part of the update that comes of rewards keeps its "
        f"direction and is {times:.4g} times as long."
    ]
