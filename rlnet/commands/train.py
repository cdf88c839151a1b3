"""Train a population and score it against the exact solution: rlnet train env=gridworld [KEY=VALUE ...]"""

from pathlib import Path

from rlnet.commands.command_line import launch
from rlnet.config import Config


def job(config: Config, folder: Path) -> None:
    """One run: train, write its page, then show what was learned beside the truth."""
    from rlnet.learning.training_loop import train

    files = train(config, folder).files
    # Loaded now, so that the first update need not wait for it.
    from rlnet.report.page import write_page
    from rlnet.report.summary import show_run

    trust = config.resume is None or config.trust  # what the user has just asked for may be made once more
    show_run(folder, [*files, write_page(folder, trust)], trust)


def finish(folder: Path) -> None:
    """A sweep: the page that sets its runs side by side."""
    from rlnet.report.sweep import write_sweep

    print(f"Written: {write_sweep(folder, trust=True)}")


def main() -> int:
    """The exit code of `rlnet train` with the arguments of `sys.argv`."""
    return launch("train", job, finish, claim=False)
