"""Shards: runs of one config that differ in their seeds alone, and together are one population."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

from rlnet.config import Config, ConfigError
from rlnet.config.stored import from_stored
from rlnet.experiment.run_folder import STORED
from rlnet.experiment.sweeps import FINISHED, FREE, RECORDS, difference, planned


def joint(folders: Sequence[Path], trust: bool = False) -> tuple[Config, list[tuple[Config, Path]]]:
    """The config of all members of several runs, and the runs with theirs, in the order of their seeds.

    Args:
        folders: of runs, or of sweeps, of which every job is meant.
        trust: whether their configs may have code run: see `rlnet.config.trust`.

    Raises:
        ConfigError: the runs differ in more than their seeds, or do not hold each seed between the first and the last
            one exactly once.
    """
    runs = [run for one in folders for run in _runs(one)]
    places = [run.resolve() for run in runs]
    for k, run in enumerate(runs):
        if places[k] in places[:k]:
            raise ConfigError(f"{run}: is named twice; name each run once")
    if len(runs) < 2:
        raise ConfigError(f"{runs[0] if runs else 'no folder'}: is a single run; name at least two to merge")
    pairs = sorted(((from_stored(run / STORED / "config.yaml", trust), run) for run in runs), key=lambda x: x[0].seed)
    (first, where), *others = pairs
    if first.search is not None:
        raise ConfigError(f"{where}: is a search, whose trials are not shards of one run")
    for config, run in others:
        same = {name: getattr(first, name) for name in (*FREE, "seed", "seeds")}
        own, wanted = asdict(replace(config, **same)), asdict(first)
        if own != wanted:
            at, before, now = difference("", wanted, own)
            said = f"{at.lstrip('.')}={now}, not {before} as that in {where}; shards differ in their seeds alone"
            raise ConfigError(f"{run}: holds a run with {said}")
    for (before, one), (config, run) in pairwise(pairs):
        end = before.seed + before.seeds
        if config.seed < end:
            raise ConfigError(f"{run}: holds seed {config.seed}, as does {one} (seeds {before.seed} to {end - 1})")
        if config.seed > end:
            missing = str(end) if config.seed == end + 1 else f"{end} to {config.seed - 1}"
            raise ConfigError(f"{run}: begins with seed {config.seed}; no folder holds seed {missing}")
    return replace(first, seeds=sum(config.seeds for config, _ in pairs)), pairs


def _runs(folder: Path) -> list[Path]:
    """A run, or the jobs of a sweep."""
    if not (folder / RECORDS).is_dir():
        return [folder]
    jobs = planned(folder)
    for one in jobs:
        if one.state != FINISHED:
            raise ConfigError(f"{folder}: {one.name} is not finished; shards are merged once all of them are")
    return [folder / one.folder for one in jobs]
