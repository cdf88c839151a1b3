"""Kill runs at random moments and go on with them: python scripts/attack.py [--kills 50] [--seed 0] [--only NAME]"""

import argparse
import sys

from rlnet.bench.attack import attack


def main() -> int:
    """Exit code 0 where every run ended as it would have without being killed, 1 where one did not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="how many runs are killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which they are killed")
    parser.add_argument("--only", default="", help="a part of the names of the kinds of runs")
    options = parser.parse_args()
    failed = attack(options.kills, options.seed, options.only)
    print(f"{options.kills - failed} of {options.kills} ended as if they had not been killed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
