"""Solving an environment without learning: what `scripts/solve.py` does."""

from dataclasses import dataclass
from pathlib import Path

from rlnet.build import exact_solution
from rlnet.config import ConfigError, SolveConfig
from rlnet.envs import make
from rlnet.mdp import FiniteMDP, Solution
from rlnet.record import write_arrays


@dataclass(frozen=True)
class Solved:
    """A model, its solution and the file that holds it."""

    config: SolveConfig
    mdp: FiniteMDP
    solution: Solution
    file: Path


def solve_and_write(config: SolveConfig, folder: Path) -> Solved:
    """Solve the model of an environment and write solution.npz: v, q, policy, start, gamma, error_bound.

    Raises:
        ConfigError: the environment has no finite model, or no finite values at this γ, or the method is not known.
    """
    mdp = make(config.env).mdp
    if mdp is None:
        raise ConfigError(
            f"env={config.env.name}: has no finite model, so it cannot be solved exactly; train on it instead"
        )
    try:
        solution = exact_solution(mdp, config.gamma, config.env.name, tol=config.tol, method=config.method)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"method={config.method}: {error}") from error
    arrays = {"v": solution.v, "q": solution.q, "policy": solution.policy, "start": mdp.start}
    numbers = {"gamma": solution.gamma, "error_bound": solution.error_bound}
    folder.mkdir(parents=True, exist_ok=True)
    write_arrays(folder / "solution.npz", arrays | numbers)
    return Solved(config, mdp, solution, folder / "solution.npz")
