"""Train a population and score it against the exact solution: rlnet train env=gridworld [KEY=VALUE ...]"""

import sys
from pathlib import Path

from rlnet.commands.command_line import launch
from rlnet.commands.failures import failed
from rlnet.commands.sharding import merge_finished, split
from rlnet.config import Config, ConfigError


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
    from rlnet.learning.hyperparameter_search import search

    said = search(config, folder, as_typed(HydraConfig.get().overrides.task))
    finish(folder)
    print(said)


def finish(folder: Path) -> None:
    """Write the report of a sweep, which compares its runs."""
    from rlnet.report.sweep import write_sweep

    print(f"Written: {write_sweep(folder, trust=True)}")


def shard(config: Config, folder: Path) -> None:
    """Train a part of a population, which is reported once all of them are merged."""
    from rlnet.learning.training_loop import train

    train(config, folder)
    print(f"Finished: seeds {config.seed} to {config.seed + config.seeds - 1}, in {folder}")


def main() -> int:
    """Run `rlnet train` with the arguments of `sys.argv`; returns the exit code."""
    try:
        shards = split(sys.argv[1:])
    except ConfigError as error:
        return failed(error)
    if shards is None:
        return launch("train", job, finish, claim=False)
    sys.argv[1:] = shards
    if "-m" not in shards:
        return launch("train", job, finish, claim=False)
    return launch("train", shard, merge_finished, claim=False, again="hydra.run.dir={0.parent}")
