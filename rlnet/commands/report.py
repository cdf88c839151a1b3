"""Write report.html again, from the files of a run or of a sweep: rlnet report DIR [clip=true] [trust=true]

clip=true plays the policy of a run and puts a short film of it on the page (DIR/clip.gif, at most 2 MB).
"""

from pathlib import Path

from rlnet.commands.key_values import on_folder, truth

READERS = {"clip": truth, "trust": truth}
DEFAULTS = {"clip": False, "trust": False}


def main() -> int:
    """Run `rlnet report`: exit code 0 where the page was written, 2 for a folder that is no run or sweep."""
    return on_folder("report", __doc__, READERS, DEFAULTS, lambda folder, chosen: _report(folder, **chosen))


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
