"""The table of an audit of TRL's trainers: in the terminal, and on a page without network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlnet.diagnosis.estimator_audit import PREFERENCES, REGULARISED, REWARD
from rlnet.diagnosis.estimator_page import OBJECTIVES, angles_figure
from rlnet.diagnosis.trl_audit import SAME, Row, TrainerAudit
from rlnet.experiment.run_files import write_text
from rlnet.experiment.run_folder import commands
from rlnet.report.html import embedded, render, versions
from rlnet.report.terminal import show_files
from rlnet.report.text import say

if TYPE_CHECKING:
    from rich.console import Console

FILE = "trl.html"
WIDTH = 7.6  # of the picture, in inches


def write_trainers(folder: Path, audit: TrainerAudit) -> Path:
    """Write the page into the folder of an audit; returns its path."""
    path = folder / FILE
    written = ", ".join(f"{name} {number}" for name, number in audit.versions.items())
    one = len(audit.rows) == 1
    bars = [(f"{row.trainer}\n{row.title}", row.matches[row.aim]) for row in audit.rows]
    content = {
        "title": f"Is my {audit.rows[0].trainer} the gradient I think it is?" if one else
        "Are TRL’s trainers the gradients that they are taken for?",
        "subtitle": f"TRL {audit.versions['trl']}, groups of {audit.group}, β = {audit.beta:g}",
        "verdict": verdict(audit),
        "instance": instance(audit),
        "reward": REWARD,
        "regularised": REGULARISED,
        "preferences": PREFERENCES,
        "rows": [cells(row) for row in audit.rows],
        "own": any(row.own for row in audit.rows),
        "meanings": [(name, OBJECTIVES[name]) for name in objectives(audit)],
        "picture": embedded(
            angles_figure(bars, "the gradient of its objective", WIDTH),
            "angles between the updates of trainers and gradients",
        ),
        "commands": [str(start["command"]) for start in commands(folder)[-1:]],
        "versions": f"{versions()}, {written}",
        "configurations": [],
    }  # fmt: skip
    write_text(path, render("trl.html", content))
    return path


def show_trainers(console: Console, audit: TrainerAudit, files: list[Path]) -> None:
    """Print what each trainer's update is, and the cosines that say so."""
    say(console, instance(audit))
    for row in audit.rows:
        say(console, f"\n{row.trainer}, {row.title}: {row.verdict}.")
        near = "; ".join(f"{name} {found.cosine:.6f}" for name, found in row.matches.items())
        own = "" if row.own is None else f"; rlnet's update of the same definition {row.own.cosine:.6f}"
        say(console, f"  cosines: {near}{own}; scale {row.matches[row.nearest].scale:.4g}")
    say(console, f"\n{verdict(audit)}")
    show_files(console, files)


def objectives(audit: TrainerAudit) -> list[str]:
    """The objectives that any row stands beside, in one order."""
    return [name for name in OBJECTIVES if any(name in row.matches for row in audit.rows)]


def cells(row: Row) -> dict[str, Any]:
    """A row as text."""
    found = row.matches[row.aim]
    return {
        "trainer": row.trainer,
        "title": row.title,
        "cosine": f"{found.cosine:.6f}",
        "angle": f"{found.angle:.2f}°",
        "scale": f"{found.scale:.4g}",
        "own": "" if row.own is None else f"{row.own.cosine:.6f}",
        "verdict": row.verdict,
        "cosines": [(name, f"{other.cosine:.6f}") for name, other in row.matches.items()],
    }


def instance(audit: TrainerAudit) -> str:
    """What the audit was made on, as a sentence."""
    return (
        f"The policy and the reference are two small Llamas of random weights. There are {audit.prompts} prompts, and "
        f"{audit.completions} completions of at most {audit.length} tokens of each; those earn 1 whose digits add up "
        f"to the prompt. β = {audit.beta:g}. All {audit.groups:,} groups of {audit.group} were enumerated (for "
        f"DPOTrainer all pairs), at the first step, where π is still the policy that gathered them."
    )


def verdict(audit: TrainerAudit) -> str:
    """The page in a sentence."""
    if len(audit.rows) == 1:
        row = audit.rows[0]
        return f"With TRL {audit.versions['trl']}, {row.trainer} ({row.title}) is {row.verdict}."
    exact = [row for row in audit.rows if abs(row.matches[row.aim].cosine - 1) < SAME]
    names = ", ".join(f"{row.trainer} ({row.title})" for row in exact)
    return (
        f"Of {len(audit.rows)} settings of TRL {audit.versions['trl']}, {len(exact)} follow the gradient of the "
        f"objective that their method is described by{': ' + names if names else ''}."
    )
