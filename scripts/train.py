"""Train a population and score it against the exact solution: python scripts/train.py env=gridworld [KEY=VALUE ...]"""

import sys

from rlnet.commands.main import command

if __name__ == "__main__":
    sys.exit(command("train")())
