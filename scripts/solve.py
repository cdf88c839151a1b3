"""Solve an environment's model exactly, without learning: python scripts/solve.py env=cliff gamma=1 [KEY=VALUE ...]"""

import sys

from rlnet.commands.main import command

if __name__ == "__main__":
    sys.exit(command("solve")())
