"""Final numbers of several runs in one table, a row for each member: rlnet table RUN_OR_SWEEP... [--out FILE]"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlnet.commands.failures import answer
from rlnet.commands.key_values import read_folders
from rlnet.compare.names import LOSSES
from rlnet.experiment.run_folder import program

SCORES = ("step", "return/mean", *LOSSES, "exact/v_rmse")  # printed; the file has them all
MOST = 50  # rows that are printed


def main() -> int:
    """Run `rlnet table`: exit code 0 where the table was written, 2 for a folder that is no run or sweep."""
    parser = argparse.ArgumentParser(prog=program("table"), description=__doc__)
    parser.add_argument(
        "folders", nargs="+", metavar="RUN", help="the folders of runs or of sweeps; trust=true as below"
    )
    parser.add_argument("--out", type=Path, default=Path("table.csv"), help="a .csv or .parquet file (table.csv)")
    parser.epilog = "trust=true lets the folders have code run; see the README"
    options = parser.parse_args()
    return answer(lambda: _table(options.folders, options.out))


def _table(words: Sequence[str], out: Path) -> int:
    from rlnet.report.table import final_rows, read_runs, write_table

    folders, trust = read_folders(words)
    rows = final_rows(read_runs(folders, trust))
    write_table(out, rows)
    _show(rows)
    print(f"Written: {out}")
    return 0


def _show(rows: Sequence[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from rlnet.report.html import number
    from rlnet.report.table import FIRST, columns

    def cell(row: dict[str, Any], name: str) -> str:
        value = row.get(name)
        return "" if value is None else number(value) if isinstance(value, float) else str(value)

    console, shown = Console(), rows[:MOST]
    settings = [name for name in columns(rows) if "/" not in name and name not in (*FIRST, "step")]
    names = ["run", "seed", *settings, *(name for name in SCORES if any(name in row for row in rows))]
    width = {name: 3 + max(len(name), *(len(cell(row, name)) for row in shown)) for name in names}
    left = []  # settings that there is no room for: first those that are alike, then those that some runs do not have

    def weight(name: str) -> tuple[bool, bool, int, int]:
        values = {cell(row, name) for row in rows}
        return len(values) > 1, all(name in row for row in rows), -name.count("."), -settings.index(name)

    for name in sorted(settings, key=weight):
        if sum(width[kept] for kept in names) > console.width:
            names.remove(name)
            left.append(name)
    table = Table(box=box.SIMPLE, pad_edge=False)
    for name in names:
        table.add_column(Text(name))
    for row in shown:
        table.add_row(*(Text(cell(row, name)) for name in names))
    console.print(table)
    if left:
        print(f"{len(left)} settings that there is no room for are in the file alone.")
    if len(rows) > MOST:
        print(f"The first {MOST} of {len(rows)} rows.")
