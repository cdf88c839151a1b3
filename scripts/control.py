"""Returns on Gymnasium's control tasks beside published ones: python scripts/control.py [--seeds 10] [--only PARTS]"""

import argparse
import sys

from rlnet.bench import control
from rlnet.commands.failures import answer


def main() -> int:
    """Parse, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, help="members of each population, if not those of the row (10)")
    parser.add_argument("--steps", type=int, help="environment steps of each member, if not those that were tuned to")
    parser.add_argument("--out", default="", help="folder for the numbers")
    parser.add_argument("--only", default="", help=f"parts of the names {', '.join(control.ROWS)}")
    options = parser.parse_args()
    return answer(lambda: 0 if control.run(options.seeds, options.steps, options.out, options.only) else 2)


if __name__ == "__main__":
    sys.exit(main())
