"""Say how far a tuned policy is from the best reward at its divergence: python scripts/frontier.py PASS_RATES.csv"""

import sys

from rlnet.commands.main import command

if __name__ == "__main__":
    sys.exit(command("frontier")())
