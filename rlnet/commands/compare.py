"""Score a finished run again from its files: rlnet compare RUN_DIR [trust=true] [--diagnose]

--diagnose is for runs with a finite model; trust=true: see the README.
"""

from pathlib import Path
from typing import Any

from rlnet.commands.key_values import on_folder, truth
from rlnet.config import ConfigError
from rlnet.experiment.run_folder import program

# Files hold the numbers in full, so only the order of floating-point sums may differ.
TOLERANCE = 1e-9


def main() -> int:
    """Run `rlnet compare`: exit code 0 where the scores are reproduced, 1 where they differ, 2 for no run."""
    flags = {"diagnose": "split the error into its causes: diagnosis.json"}
    return on_folder("compare", __doc__, {"trust": truth}, {"trust": False}, _compare, flags)


def _compare(folder: Path, chosen: dict[str, Any]) -> int:
    from rlnet.experiment.comparison_files import rescore
    from rlnet.report.finished import is_run
    from rlnet.report.page import write_page
    from rlnet.report.summary import show_rescored

    runs = sorted(path.parent.name for path in folder.glob("*/metrics.csv"))
    if not is_run(folder) and runs:
        few = ", ".join(runs[:5]) + (", ..." if len(runs) > 5 else "")
        page = f"{program('report')} {folder} sets them side by side"
        raise ConfigError(f"{folder}: is a sweep of {len(runs)} runs ({few}); name one of them, or {page}")
    result = rescore(folder, chosen["trust"])
    show_rescored(result, folder)
    if chosen["diagnose"]:
        from rlnet.diagnosis import diagnose_and_write
        from rlnet.report.diagnosed import show_diagnosis

        diagnosis = diagnose_and_write(folder, result)
        show_diagnosis(diagnosis, result.problem.mdp, folder / "diagnosis.json")
        print(f"Written: {write_page(folder, chosen['trust'])}")
    return 0 if result.difference <= TOLERANCE else 1
