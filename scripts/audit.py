"""Test the simulators of an environment against its model: python scripts/audit.py env=frozen_lake samples=200000"""

import sys

from rlnet.commands.main import command

if __name__ == "__main__":
    sys.exit(command("audit")())
