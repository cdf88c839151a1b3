"""Plant classic RL bugs one at a time: which do the exact checks catch, which would the return curve have shown?

python scripts/mutations.py [--only PART_OF_A_NAME] [--out mutations.json]     Takes half an hour to an hour.
"""

import argparse
import sys
from pathlib import Path

from rlnet.bench.mutation_list import MUTATIONS
from rlnet.bench.mutations import MutationError, run


def main() -> int:
    """Exit code 0 where all are caught, 1 where one is not, 2 where a mutation no longer fits the source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a part of the names of the bugs to try")
    parser.add_argument("--out", type=Path, help="also write the table as JSON")
    options = parser.parse_args()
    try:
        rows = run(MUTATIONS, options.out, options.only)
    except MutationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if all(row.caught for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
