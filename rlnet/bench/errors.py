"""The exact error that every algorithm reaches, with its default settings, on three environments, in Markdown."""

from __future__ import annotations

import inspect
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rlnet.algos import Algorithm
    from rlnet.config import Config

ENVIRONMENTS = ("gridworld", "sutton5x5", "frozen_lake")
ABSENT = "–"


@dataclass(frozen=True)
class Reached:
    """Errors of one algorithm on one environment: medians over members, as shares of the range of the exact V."""

    algo: str
    env: str
    error: float = float("nan")  # root mean square error of Q or V, weighted as `exact/q_rmse`, `exact/v_rmse`
    regret: float = float("nan")  # J* − J(π) of the judged policy; NaN where that is given
    seconds: float = float("nan")
    refused: str = ""  # why this pair cannot be trained, in the words of the program


def reach(configs: Path, algo: str, env: str, seeds: int, steps: int | None = None) -> Reached:
    """Train a population through the loop of `scripts/train.py`, without its files, and score it."""
    from rlnet.compare import reachable
    from rlnet.config import ConfigError
    from rlnet.experiment.problem import build
    from rlnet.learning.resources import set_threads
    from rlnet.learning.training_state import TrainingState
    from rlnet.learning.updates import learn

    began = time.perf_counter()
    try:
        length = [] if steps is None else [f"steps={steps}"]
        config = _composed(configs, algo, f"env={env}", f"seeds={seeds}", "threads=1", *length)
        state = TrainingState(config, build(config))
        set_threads(state)
    except ConfigError as error:
        return Reached(algo, env, refused=str(error))
    while int(state.steps.min()) < config.steps:
        learn(state, state.collect())
    problem, comparison = state.problem, state.compare()[1]
    reached = reachable(problem.environment.mdp)
    scale = np.ptp(comparison.v_exact[:, reached], axis=1)  # [M]
    scalars = comparison.scalars
    error = scalars["exact/q_rmse" if "exact/q_rmse" in scalars else "exact/v_rmse"]
    # A policy that is given has no regret of the learner's making.
    regret = scalars["exact/regret"] if problem.algorithm.judged != "given" else np.full_like(scale, np.nan)
    share = (float(np.median(x / scale)) for x in (error, regret))
    return Reached(algo, env, *share, seconds=time.perf_counter() - began)


def run(
    configs: Path, seeds: int = 3, steps: int | None = None, jobs: int = 2, out: str = "", only: str = ""
) -> list[Reached]:
    """Train everything, print the table, and write the numbers to `out`/errors.json if given.

    Args:
        configs: the folder of the configs.
        seeds: members of each population; medians are shown.
        steps: of each member; None for what the algorithm's config says.
        jobs: processes side by side.
        only: names of algorithms, with commas between; empty for all.
    """
    names = [path.stem for path in sorted((configs / "algo").glob("*.yaml"))]
    names = [name for name in names if not only or name in only.split(",")]
    names = [name for name in names if "group" not in _record(configs, name).options]  # those need texts
    results: dict[tuple[str, str], Reached] = {}
    with ProcessPoolExecutor(jobs) as pool:
        futures = [pool.submit(reach, configs, name, env, seeds, steps) for name in names for env in ENVIRONMENTS]
        for future in as_completed(futures):
            found = future.result()
            results[found.algo, found.env] = found
            print(f"{found.algo} on {found.env}: {_cell(found)} {found.refused} ({found.seconds:.0f} s)", flush=True)
    print("\n" + table(configs, names, results))
    if out:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "errors.json").write_text(json.dumps([asdict(found) for found in results.values()], indent=1))
    for name in sorted({found.refused for found in results.values()} - {""}):
        print(f"{ABSENT} {name}")
    median = statistics.median(found.seconds for found in results.values() if not found.refused)
    print(f"\n{steps or 'default'} steps, {seeds} seeds each, medians; {median:.0f} s for the median population")
    return list(results.values())


def table(configs: Path, names: list[str], results: dict[tuple[str, str], Reached]) -> str:
    """A row per algorithm: what it learns, how it acts, its loss, its data, its source, and what it reached."""
    heads = (
        "`algo`",
        "learns",
        "acts by",
        "loss of a step; x → y is ½·(y − x)²",
        "data",
        "source",
        *(f"`{env}`" for env in ENVIRONMENTS),
    )
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name in names:
        cells = (f"`{name}`", *facts(configs, name), *(_cell(results[name, env]) for env in ENVIRONMENTS))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def facts(configs: Path, name: str) -> tuple[str, str, str, str, str]:
    """Facts about an algorithm, from its record and docstring."""
    from rlnet.algos.algorithm import LossGradient, SemiGradient, by_given, by_policy, by_values
    from rlnet.algos.context import Q, V

    algorithm = _record(configs, name)
    symbols = {"q": "Q", "v": "V", "pi": "π", "temperature": "τ"}
    learns = ", ".join(symbols.get(role) or role.replace("q", "Q") for role in algorithm.roles)
    acts = {by_values: "exploration", by_policy: "π", by_given: "given policy"}[algorithm.acting.act]
    objective = algorithm.objective
    if isinstance(objective, SemiGradient):
        equation = {Q: "Q(S, A)", V: "V(S)"}[algorithm.roles[0]] + f" → {_formula(objective.target)}"
    else:
        equation = _formula(objective.loss if isinstance(objective, LossGradient) else objective.step)
    kinds = {
        "replay": algorithm.data.replay,
        "traces": algorithm.traces is not None,
        "whole episodes": algorithm.data.whole_episodes,
    }
    data = next((kind for kind, holds in kinds.items() if holds), "rollouts")
    return learns, acts, equation, data, algorithm.source


def _formula(function: Callable[..., Any]) -> str:
    """The first line of a docstring: the equation."""
    return inspect.getdoc(function).splitlines()[0].rstrip(".")


def _record(configs: Path, name: str) -> Algorithm:
    """The algorithm with the choices of its config."""
    from rlnet import algos

    algo = _composed(configs, name).algo
    return algos.load(algo.name).chosen(algo.options)


def _composed(configs: Path, algo: str, *overrides: str) -> Config:
    from hydra import compose, initialize_config_dir

    from rlnet.config import VERSION_BASE, register
    from rlnet.config.validation import from_hydra

    register()
    with initialize_config_dir(str(configs.resolve()), **VERSION_BASE):
        return from_hydra(compose("train", overrides=[f"algo={algo}", *overrides]))


def _cell(found: Reached) -> str:
    if found.refused:
        return ABSENT
    regret = "" if np.isnan(found.regret) else f" / {_percent(found.regret)}"
    return _percent(found.error) + regret


def _percent(share: float) -> str:
    if not np.isfinite(share):
        return "∞"
    return "0" if abs(share) < 5e-6 else f"{float(f'{100 * share:.2g}'):g} %"
