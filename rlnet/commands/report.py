"""Write report.html again, from the files of a run or of a sweep: rlnet report DIR [clip=true] [trust=true]

clip=true plays the policy of a run and puts a short film of it on the page (DIR/clip.gif, at most 2 MB).
"""

import argparse
from pathlib import Path

from rlnet.commands.failures import answer
from rlnet.commands.key_values import read_settings, truth
from rlnet.experiment.run_folder import program

READERS = {"clip": truth, "trust": truth}
DEFAULTS = {"clip": False, "trust": False}


def main() -> int:
    """Run `rlnet report`: exit code 0 where the page was written, 2 for a folder that is no run or sweep."""
    parser = argparse.ArgumentParser(
        prog=program("report"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="the folder of a run or of a sweep")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="clip=true; trust=true: see the README")
    options = parser.parse_args()
    return answer(lambda: _report(options.folder, **read_settings(options.settings, READERS, DEFAULTS)))


def _report(folder: Path, trust: bool, clip: bool) -> int:
    from rlnet.report.finished import is_run
    from rlnet.report.page import write_page
    from rlnet.report.sweep import write_sweep

    if clip:
        _film(folder, trust)
    print(f"Written: {(write_page if is_run(folder) else write_sweep)(folder, trust)}")
    return 0


def _film(folder: Path, trust: bool) -> None:
    """Write DIR/clip.gif: an episode of the member that pictures show."""
    from rlnet.commands import watch
    from rlnet.commands.api import load
    from rlnet.report.finished import read_run
    from rlnet.report.page import CLIP

    run = read_run(folder, trust)
    member = 0 if run.comparison is None else int(run.shown["member"])
    watch.write_clip(load(folder, member, trust=trust), folder / CLIP, dict(watch.DEFAULTS), small=True)
