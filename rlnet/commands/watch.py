"""Watch a learned policy: rlnet watch RUN_DIR [render=auto|ansi|human|gif|mp4|none] [episodes=1] [seed=0] [member=0]

Beside what the environment shows stand V(s), Q(s, ·) and π(·|s); on maps, the values of all cells. render=gif and mp4
write a file, by default RUN_DIR/clip.gif or clip.mp4; out=PATH another one. sample=true draws actions as in training,
exploration included; steps=N ends an episode after so many; fps=N is the speed; trust=true: see the README.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlnet.commands.key_values import on_folder, one_of, positive, truth, whole
from rlnet.config import ConfigError

if TYPE_CHECKING:
    from rlnet.learning.policy import Policy

FILMS = ("gif", "mp4")
READERS = {
    "render": one_of("auto", "ansi", "human", *FILMS, "none"),
    "episodes": whole(1),
    "seed": whole(0),
    "member": whole(0),
    "sample": truth,
    "steps": whole(1),
    "fps": positive,
    "out": Path,
    "trust": truth,
}
DEFAULTS = {"render": "auto", "episodes": 1, "seed": 0, "member": 0, "sample": False, "steps": 1_000}
DEFAULTS |= {"fps": None, "out": None, "trust": False}


def main() -> int:
    """Run `rlnet watch`: exit code 0 at the end, 2 for a folder or settings that cannot be used."""
    return on_folder("watch", __doc__, READERS, DEFAULTS, _watch)


def _watch(folder: Path, chosen: dict[str, Any]) -> int:
    from rlnet.commands.api import load
    from rlnet.experiment.checkpoints import require_place

    if chosen["out"] is not None:
        if chosen["render"] not in FILMS:
            raise ConfigError(f"out={chosen['out']}: only render=gif and render=mp4 write a file")
        require_place(chosen["out"], f".{chosen['render']}", option="out=")
    policy = load(folder, chosen["member"], trust=chosen["trust"])
    if chosen["render"] in FILMS:
        path = chosen["out"] or folder / f"clip.{chosen['render']}"
        print(f"Written: {write_clip(policy, path, chosen)}")
    else:
        _tell(policy, chosen)
    return 0


def mode_of(policy: "Policy", render: str) -> str | None:
    """The render mode of the environment for what was asked for.

    Raises:
        ConfigError: the environment has no such mode.
    """
    from rlnet.envs.playing import render_modes

    trained = policy.trained
    modes = render_modes(trained.config.env, trained.problem.environment)
    if render == "auto":
        return "ansi" if "ansi" in modes else None
    wanted = {"gif": "rgb_array", "mp4": "rgb_array", "none": None}.get(render, render)
    if wanted is not None and wanted not in modes:
        can = ["ansi", "human"] + (list(FILMS) if "rgb_array" in modes else [])
        allowed = [name for name in can if name in modes or name in FILMS] + ["none"]
        raise ConfigError(f"render={render}: {trained.config.env.title()} can be shown as {', '.join(allowed)}")
    return wanted


def write_clip(policy: "Policy", path: Path, chosen: dict[str, Any], small: bool = False) -> Path:
    """Play and write a GIF, or with render=mp4 an MP4; `small`: within the limits of a page.

    Raises:
        ConfigError: the environment draws no images, or a package is missing.
    """
    from rlnet.learning.watching import value_map
    from rlnet.report import clip

    moments = list(_moments(policy, mode_of(policy, "gif"), chosen))
    moments = clip.few(moments) if small else moments
    drawn, environment = value_map(policy), policy.trained.problem.environment
    images = clip.draw(moments, *((None, None) if drawn is None else (environment.mdp, drawn[0])))
    fps = chosen["fps"] or _speed(policy)
    if small:
        path.write_bytes(clip.small_gif(images, fps))
    elif chosen["render"] == "mp4":
        clip.write_mp4(images, path, fps)
    else:
        clip.write_gif(images, path, fps)
    return path


def _moments(policy: "Policy", mode: str | None, chosen: dict[str, Any]) -> Any:
    from rlnet.learning.watching import watched

    how = {name: chosen[name] for name in ("episodes", "seed", "sample")}
    return watched(policy, render_mode=mode, most=chosen["steps"], **how)


def _speed(policy: "Policy") -> float:
    """Frames per second: 4 for finite models, else 30."""
    return 4.0 if policy.trained.problem.environment.mdp is not None else 30.0


def _tell(policy: "Policy", chosen: dict[str, Any]) -> None:
    """Play in the terminal."""
    from rich.console import Console

    from rlnet.learning.watching import value_map
    from rlnet.report.moment import told
    from rlnet.report.panels import Panel
    from rlnet.report.terminal import show_values

    mode, drawn = mode_of(policy, chosen["render"]), value_map(policy)
    mdp = policy.trained.problem.environment.mdp
    if drawn is not None and mdp is not None:
        show_values(Console(), mdp, [Panel("learned V", *drawn)])
    drawing = policy.trained.problem.environment.drawing
    if mode == "ansi" and drawing is not None and (legend := getattr(drawing(mode), "LEGEND", "")):
        print(f"{legend}\n")
    live, returns = sys.stdout.isatty(), []
    for moment in _moments(policy, mode, chosen):
        if moment.action is None:
            returns.append(moment.ret)
        print(f"{told(moment)}\n", flush=True)
        if live and mode != "human":  # which keeps its own time
            time.sleep(1 / (chosen["fps"] or _speed(policy)))
    if len(returns) > 1:
        spread = f"from {min(returns):.6g} to {max(returns):.6g}"
        print(f"Return of {len(returns)} episodes: mean {np.mean(returns):.6g}, {spread}.")
