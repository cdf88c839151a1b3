"""The job of `rlnet solve`: solve an environment's model and write solution.npz."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rlnet.config import ConfigError, RunFailed, SolveConfig
from rlnet.envs import make
from rlnet.experiment.exact_solutions import exact_solution
from rlnet.experiment.run_files import write_arrays
from rlnet.experiment.sizes import require_solvable
from rlnet.mdp import FiniteMDP, Solution, ToleranceWarning


@dataclass(frozen=True)
class Solved:
    """A model, its solution and the file that holds it."""

    config: SolveConfig
    mdp: FiniteMDP
    solution: Solution
    file: Path
    approximation: str = ""  # by how much the model is wrong, in a sentence, where it is approximate


def solve_and_write(
    config: SolveConfig, folder: Path, callback: Callable[[int, float, float], None] | None = None
) -> Solved:
    """Solve the model of an environment and write solution.npz: v, q, policy, start, gamma, error_bound.

    `callback(sweeps, bound, seconds)` is called between sweeps. An interruption (Ctrl-C) of sweeps leaves the best
    values so far, with their bound.

    Raises:
        ConfigError: the environment has no finite model, or no finite values at this γ, or the device is not there.
        RunFailed: the values contradict the check in extended precision, or the linear program was given up.
    """
    environment = make(config.env)
    mdp = environment.mdp
    if mdp is None:
        why = f" ({environment.no_model})" if environment.no_model else ""
        raise ConfigError(
            f"{config.env.title()}: has no finite model, so it cannot be solved exactly; train on it instead{why}"
        )
    require_solvable(mdp, config.env.title())
    options = {key: getattr(config, key) for key in ("tol", "method", "temperature", "horizon", "device", "verify")}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ToleranceWarning)  # the bound is reported, whatever it is
            solution = exact_solution(mdp, config.gamma, config.env.title(), callback=callback, **options)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error
    except ArithmeticError as error:
        raise RunFailed(str(error)) from error
    arrays = {"v": solution.v, "q": solution.q, "policy": solution.policy, "start": mdp.start}
    numbers = {"gamma": solution.gamma, "error_bound": solution.error_bound}
    folder.mkdir(parents=True, exist_ok=True)
    write_arrays(folder / "solution.npz", {**arrays, **numbers})
    grid = environment.grid
    said = "" if grid is None or config.horizon is not None or config.temperature else grid.error(solution)
    return Solved(config, mdp, solution, folder / "solution.npz", said)
