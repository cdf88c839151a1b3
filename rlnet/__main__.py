"""`python -m rlnet COMMAND ...`: the same as the command `rlnet`."""

import sys

from rlnet.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
