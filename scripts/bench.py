"""`python scripts/bench.py dp`: exact dynamic programming side by side with other solvers."""

import argparse
import sys

from rlnet.bench import dp


def main() -> None:
    """Parse, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["dp"])
    parser.add_argument("--peers", default=sys.executable, help="the Python in which the other solvers are installed")
    parser.add_argument("--rounds", type=int, default=5, help="medians over this many interleaved turns")
    parser.add_argument("--full", action="store_true", help="also 10^7 states (8 GiB)")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds granted to a solver for one answer")
    parser.add_argument("--only", default="", help="parts of names of problems, with commas between, e.g. Taxi,10^5")
    parser.add_argument("--out", default="", help="folder for dp.json and dp.png")
    options = parser.parse_args()
    dp.run(options.peers, options.rounds, options.full, options.limit, options.out, options.only)


if __name__ == "__main__":
    main()
