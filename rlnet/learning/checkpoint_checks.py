"""Checks of a checkpoint against the run that it is loaded into: settings, shapes and counters."""

from collections.abc import Mapping
from typing import Any

import torch

from rlnet.config import Config, ConfigError
from rlnet.config.stored import differences
from rlnet.data.replay_buffer import room
from rlnet.experiment.checkpoints import DamagedError, misfit

# Settings that may change when a run is resumed. More steps also stretch schedules, which follow the share of the run.
RESUMABLE = (
    "steps",
    "logger",
    "log_every",
    "compare_every",
    "compare_share",
    "checkpoint_every",
    "threads",
    "processes",
    "compile",
    "resume",
    "trust",
)


# Types of the fields of a replay that do not depend on the environment.
STORED_AS = dict.fromkeys(("terminated", "truncated", "valid"), torch.bool) | {"reward": torch.float32}


def same_settings(config: Config, stored: Mapping[str, Any]) -> None:
    """Raise ConfigError where a resumed run has other settings than before, except for `RESUMABLE`."""
    for name, now, before in differences(config, stored):
        if name.partition(".")[0] not in RESUMABLE:
            allowed = f"a resumed run keeps its settings; only {', '.join(RESUMABLE[:-2])} may change"
            raise ConfigError(f"{name}={now}: {allowed} (it was {before})")


def check_fits(own: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Raise DamagedError where a stored state does not fit the state `own` of a run: shapes, types, counters."""
    if own["collector"]["simulation"].get("environments") is not None:
        own["collector"]["simulation"]["environments"] = None  # saved in more or fewer bytes
    if "replay" in own:
        own["replay"]["ring"] = None  # of as many rows as there were
    for name, part in own.items():
        wrong = None if name == "config" else misfit(part, state.get(name), name)
        if wrong is not None:
            raise DamagedError(f"it does not fit this run: {wrong}")
    wrong = _misfit_of_rows(state["replay"], state["config"]["algo"]) if "replay" in own else None
    if wrong is not None:
        raise DamagedError(f"it does not fit this run: replay.ring {wrong}")
    steps, visits = state["steps"], state["visits"]
    counted = {
        "steps": steps,
        "updates": state["updates"],
        "collector.episode_count": state["collector"]["episode_count"],
    }
    for name, count in counted.items():
        if (torch.as_tensor(count) < 0).any():
            raise DamagedError(f"it does not fit this run: {name} is below 0")
    if visits is not None and not torch.equal(visits.sum((1, 2)).cpu(), steps):
        raise DamagedError("it does not fit this run: visits do not add up to steps")


def _misfit_of_rows(replay: Mapping[str, Any], algo: Mapping[str, Any]) -> str | None:
    """What is wrong with the stored rows of a replay, those written so far of each member; None where nothing is."""
    ring, added = replay["ring"], replay["added"]
    if ring is None:
        return None if added == 0 else "has no rows"
    if not isinstance(ring, Mapping) or not {"obs", "next_obs", "action", *STORED_AS}.issubset(ring):
        return "has not the fields of transitions"
    members = len(replay["top"])
    held = min(added, room(algo["capacity"], algo["envs"], algo["n_step"]))
    for name, rows in ring.items():
        if not isinstance(rows, torch.Tensor) or rows.shape[:3] != (members, held, algo["envs"]):
            kind = str(list(rows.shape)) if isinstance(rows, torch.Tensor) else type(rows).__name__
            return f"has {name} of {kind}, not [{members}, {held}, {algo['envs']}, ...]"
        if rows.dtype != STORED_AS.get(name, rows.dtype):
            return f"has {name} of {rows.dtype}, not of {STORED_AS[name]}"
    return None
