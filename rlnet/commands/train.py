"""Train a population and score it against the exact solution: rlnet train env=gridworld [KEY=VALUE ...]"""

from pathlib import Path

from rlnet.commands.command_line import launch
from rlnet.config import Config


def job(config: Config, folder: Path) -> None:
    """Train one run, write its report, and print learned against exact values."""
    from rlnet.learning.training_loop import train

    if config.search is not None:
        _search(config, folder)
        return
    result = train(config, folder)
    # Loaded now, so that the first update need not wait for it.
    from rlnet.report.page import write_page
    from rlnet.report.summary import show_run

    trust = config.resume is None or config.trust  # what the user has just asked for may be made once more
    page = write_page(folder, trust, result.run.problem.environment)
    show_run(config, result.scored, [*result.files, page])


def _search(config: Config, folder: Path) -> None:
    """Search for hyperparameters, print the best ones and write the page of the study."""
    from hydra.core.hydra_config import HydraConfig

    from rlnet.experiment.run_folder import as_typed
    from rlnet.learning.search import search

    said = search(config, folder, as_typed(HydraConfig.get().overrides.task))
    finish(folder)
    print(said)


def finish(folder: Path) -> None:
    """Write the report of a sweep, which compares its runs."""
    from rlnet.report.sweep import write_sweep

    print(f"Written: {write_sweep(folder, trust=True)}")


def main() -> int:
    """Run `rlnet train` with the arguments of `sys.argv`; returns the exit code."""
    return launch("train", job, finish, claim=False)
