"""Solve an environment's model exactly, without learning: rlnet solve env=cliff gamma=1 [KEY=VALUE ...]"""

from pathlib import Path

from rlnet.commands.command_line import launch
from rlnet.config import SolveConfig

SILENT_SECONDS = 2.0  # a solve that takes longer shows how far it is


def job(config: SolveConfig, folder: Path) -> None:
    """Solve, print the grid, write solution.npz. After Ctrl-C the same, with the best values so far."""
    from rich.console import Console

    from rlnet.experiment.solve_job import solve_and_write
    from rlnet.report.summary import show_solution

    status = Console(stderr=True).status("solving")

    def progress(sweeps: int, bound: float, seconds: float) -> None:
        if seconds > SILENT_SECONDS:
            status.start()
            within = f"every value within {bound:.1e}" if bound < float("inf") else "no bound yet"
            status.update(f"{seconds:.0f} s, {sweeps} sweeps: {within}, tol={config.tol:g}")

    try:
        solved = solve_and_write(config, folder, progress)
    finally:
        status.stop()
    show_solution(solved)
    if solved.solution.interrupted:
        raise KeyboardInterrupt


def main() -> int:
    """Run `rlnet solve` with the arguments of `sys.argv`; returns the exit code."""
    return launch("solve", job)
