"""Merge runs that differ in their seeds alone into one run of all members: rlnet merge RUN_OR_SWEEP... --out FOLDER"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rlnet.commands.failures import answer
from rlnet.commands.key_values import read_folders
from rlnet.experiment.run_folder import program


def main() -> int:
    """Run `rlnet merge`: exit code 0 where the runs were merged, 2 where they do not fit together."""
    parser = argparse.ArgumentParser(prog=program("merge"), description=__doc__)
    parser.add_argument("folders", nargs="+", metavar="RUN", help="the folders of finished runs, or of a sweep of them")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the merged run; it must not hold a run")
    parser.epilog = "trust=true lets the folders have code run; see the README"
    options = parser.parse_args()
    return answer(lambda: _merge(options.folders, options.out))


def _merge(words: Sequence[str], out: Path) -> int:
    folders, trust = read_folders(words)
    merged(folders, out, trust)
    return 0


def merged(folders: Sequence[Path], out: Path, trust: bool) -> None:
    """Merge runs, write the page of the merged one, and say where it is."""
    from rlnet.learning.merging import merge
    from rlnet.report.page import write_page

    problem = merge(folders, out, trust)
    print(f"Merged: {write_page(out, trust, problem.environment)}")
