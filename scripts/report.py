"""Write report.html again, from the files of a run or of a sweep: python scripts/report.py DIR [trust=true]"""

import sys

from rlnet.commands.main import command

if __name__ == "__main__":
    sys.exit(command("report")())
