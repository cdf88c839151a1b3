"""Train a population and score it against the exact solution: python scripts/train.py env=gridworld [KEY=VALUE ...]"""

import sys

from rlnet.commands.main import call

if __name__ == "__main__":
    sys.exit(call("train"))
