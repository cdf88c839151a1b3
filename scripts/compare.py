"""Score a finished run again from its files: python scripts/compare.py RUN_DIR [trust=true] [--diagnose]"""

import sys

from rlnet.commands.main import command

if __name__ == "__main__":
    sys.exit(command("compare")())
