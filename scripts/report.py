"""Write report.html again, from the files of a run: python scripts/report.py RUN_DIR"""

import argparse
import sys
from pathlib import Path

from rlnet.config import ConfigError


def main() -> int:
    """Exit code 0 where the page was written, 2 for a folder that is no run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the output folder of scripts/train.py")
    folder = parser.parse_args().folder
    try:
        from rlnet.report.page import write_page

        print(f"Written: {write_page(folder)}")
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
