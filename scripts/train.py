"""Train a population and score it against the exact solution: python scripts/train.py env=gridworld [KEY=VALUE ...]"""

import sys
from pathlib import Path

from rlnet.cli import launch
from rlnet.config import Config


def job(config: Config, folder: Path) -> None:
    """One run: train, then show what was learned beside the truth."""
    from rlnet.report.summary import show_run
    from rlnet.train import run

    show_run(folder, run(config, folder).files)


if __name__ == "__main__":
    sys.exit(launch("train", Path(__file__).parents[1] / "configs", job))
