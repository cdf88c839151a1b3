"""Returns on Gymnasium's control tasks beside published ones: python scripts/control.py [--seeds 10] [--only PARTS]"""

import argparse

from rlnet.bench import control


def main() -> None:
    """Parse, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="members of each population")
    parser.add_argument("--steps", type=int, help="environment steps of each member, if not those of the row")
    parser.add_argument("--out", default="", help="folder for the numbers")
    parser.add_argument("--only", default="", help=f"parts of the names {', '.join(control.ROWS)}")
    options = parser.parse_args()
    control.run(options.seeds, options.steps, options.out, options.only)


if __name__ == "__main__":
    main()
