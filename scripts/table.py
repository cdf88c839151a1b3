"""Final numbers of several runs in one table, a row for each member: python scripts/table.py RUN... [--out FILE]"""

import sys

from rlnet.commands.main import command

if __name__ == "__main__":
    sys.exit(command("table")())
