"""Write report.html again, from the files of a run or of a sweep: python scripts/report.py DIR [trust=true]"""

import sys

from rlnet.commands.report import main

if __name__ == "__main__":
    sys.exit(main())
