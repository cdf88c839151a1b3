"""Solve an environment's model exactly, without learning: python scripts/solve.py env=cliff gamma=1 [KEY=VALUE ...]"""

import sys
from pathlib import Path

from rlnet.cli import launch
from rlnet.config import SolveConfig


def job(config: SolveConfig, folder: Path) -> None:
    """Solve, print the grid, write solution.npz."""
    from rlnet.exact import solve_and_write
    from rlnet.report.summary import show_solution

    show_solution(solve_and_write(config, folder))


if __name__ == "__main__":
    sys.exit(launch("solve", Path(__file__).parents[1] / "configs", job))
