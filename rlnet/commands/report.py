"""Write report.html again, from the files of a run or of a sweep: rlnet report DIR [trust=true]"""

import argparse
from pathlib import Path

from rlnet.commands.failures import answer
from rlnet.experiment.run_folder import program


def main() -> int:
    """Run `rlnet report`: exit code 0 where the page was written, 2 for a folder that is no run or sweep."""
    parser = argparse.ArgumentParser(prog=program("report"), description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder of a run or of a sweep")
    parser.add_argument("trust", nargs="?", choices=["trust=true"], help="let the folder have code run; see the README")
    options = parser.parse_args()
    return answer(lambda: _report(options.folder, options.trust is not None))


def _report(folder: Path, trust: bool) -> int:
    from rlnet.report.finished import is_run
    from rlnet.report.page import write_page
    from rlnet.report.sweep import write_sweep

    print(f"Written: {(write_page if is_run(folder) else write_sweep)(folder, trust)}")
    return 0
