"""The final numbers of several runs as one table: a row for each member, with its settings and its scores."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rlnet.config import ConfigError, leaves
from rlnet.config.files import check_folder, printable
from rlnet.config.optional import needed
from rlnet.config.population import each_setting
from rlnet.experiment.checkpoints import require_place, write_whole
from rlnet.experiment.run_files import write_text
from rlnet.report.finished import Finished, has_rows, is_run, read_run
from rlnet.report.methods import NOT_A_METHOD

FIRST = ("run", "member", "seed", "complete")  # the columns that every table begins with
ALWAYS = ("env.name", "algo.name", "network.name", "gamma")  # settings that are shown though all runs share them
Row = dict[str, Any]


def run_folders(folders: Sequence[Path]) -> list[Path]:
    """The folders of runs among some folders, or in those that are sweeps.

    Raises:
        ConfigError: a folder that is neither, or where nothing was logged.
    """
    found: list[Path] = []
    for folder in folders:
        if folder.is_dir() and not is_run(folder):
            check_folder(folder)
            children = [child for child in folder.iterdir() if is_run(child) and has_rows(child)]
            if not children:
                raise ConfigError(f"{folder}: is neither the folder of a run nor of a sweep that has logged something")
            found += sorted(children, key=lambda child: (len(child.name), child.name))
        else:
            found.append(folder)
    places: dict[Path, Path] = {}  # a run that is named twice, in whatever way, counts once
    for folder in found:
        places.setdefault(folder.resolve(), folder)
    return list(places.values())


def final_rows(runs: Sequence[Finished]) -> list[Row]:
    """A row for each member of each run: `FIRST`, the settings that differ, the last value of each logged scalar.

    The final scores against the exact solution are those of comparison.json.
    """
    parts = [part for run in runs for part in _members(run)]
    varied = _differing([settings for _, settings, _ in parts])
    return [{**own, **{key: settings.get(key) for key in varied}, **scores} for own, settings, scores in parts]


def logged_rows(runs: Sequence[Finished]) -> list[Row]:
    """Every row of metrics.csv of each run, with `FIRST` and the settings that differ."""
    parts = [part for run in runs for part in _members(run)]
    varied = _differing([settings for _, settings, _ in parts])
    known = {(own["run"], own["member"]): (own, settings) for own, settings, _ in parts}
    rows = []
    for run in runs:
        for row in run.rows:
            own, settings = known[_name(run), int(row["member"])]
            scalars = {key: _number(text) for key, text in row.items() if key not in ("member", "seed")}
            scalars = {key: value for key, value in scalars.items() if key not in settings}
            rows.append({**own, **{key: settings.get(key) for key in varied}, "step": int(row["step"])} | scalars)
    return rows


def _members(run: Finished) -> list[tuple[Row, Row, Row]]:
    """Of each member: what it is, all its settings, its final numbers."""
    config = run.config
    each = [leaves(asdict(one)) for one in each_setting(config)]
    kept = [{k: _plain(v) for k, v in one.items() if _kept(k)} for one in each]
    last: list[Row] = [{} for _ in config.member_seeds]
    for row in run.rows:
        numbers = last[int(row["member"])]
        for key, text in row.items():
            if text != "":
                numbers[key] = text
    found = []
    for m, seed in enumerate(config.member_seeds):
        settings = kept[m // config.seeds]
        scores = {k: _number(v) for k, v in last[m].items() if k not in ("member", "seed") and k not in each[0]}
        if run.comparison is not None:
            scores |= {k: float(v) for k, v in run.comparison["members"][m]["scores"].items()}
        scores["step"] = int(last[m].get("step", 0))
        own = {"run": _name(run), "member": m, "seed": seed, "complete": run.complete}
        found.append((own, settings, scores))
    return found


def _name(run: Finished) -> str:
    return printable(str(run.folder))


def _kept(key: str) -> bool:
    return key == "gamma" or key.partition(".")[0] == "env" or key.partition(".")[0] not in NOT_A_METHOD


def _plain(value: Any) -> Any:
    """A setting as a number, a truth value, a text or None."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings in which rows differ, and `ALWAYS`."""
    known = dict.fromkeys(key for one in settings for key in one)
    return [key for key in known if key in ALWAYS or len({repr(one.get(key)) for one in settings}) > 1]


def _number(text: str) -> float:
    return float(text) if text != "" else float("nan")


def columns(rows: Sequence[Row]) -> list[str]:
    """The names of all columns, in the order in which they appear."""
    return list(dict.fromkeys(key for row in rows for key in row))


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write a table as CSV or Parquet, as the name says.

    Raises:
        ConfigError: another name, a file that is no table, the files of a run, or pyarrow is not installed.
    """
    require_place(path, ".csv", ".parquet")
    if is_run(path.parent):
        raise ConfigError(f"{path}: lies in the folder of a run; name a file elsewhere")
    if path.exists() and not _is_table(path):
        raise ConfigError(f"{path}: is there already, and is no table of runs; name another file")
    names = columns(rows)
    if path.suffix == ".csv":
        text = io.StringIO(newline="")
        table = csv.writer(text)
        table.writerow(names)
        table.writerows([_cell(row.get(name)) for name in names] for row in rows)
        write_text(path, text.getvalue())
        return
    arrow, parquet = (needed(name, "table", str(path)) for name in ("pyarrow", "pyarrow.parquet"))
    content = arrow.table({name: _column([row.get(name) for row in rows]) for name in names})
    write_whole(path, lambda part: parquet.write_table(content, part))


def _is_table(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1" if path.suffix == ".parquet" else file.readline().startswith(b"run,member,seed,")


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if np.isnan(value) else repr(value)
    return value


def _column(values: Sequence[Any]) -> list[Any]:
    """Values of one type, for a typed column: numbers as floats where they are mixed, everything as text otherwise."""
    kinds = {type(x) for x in values if x is not None}
    if kinds <= {int, float} and len(kinds) > 1:
        return [None if x is None else float(x) for x in values]
    return list(values) if len(kinds) < 2 else [None if x is None else str(x) for x in values]


def read(*folders: Path | str, log: bool = False, trust: bool = False) -> Any:
    """The results of runs as a pandas DataFrame.

    Args:
        folders: of runs, or of sweeps, whose runs all count.
        log: False: a row for each member, with its settings and final numbers; True: a row for each row of its log.
        trust: whether the configs of the runs may have code run: see `rlnet.config.trust`.

    Raises:
        ConfigError: a folder that cannot be read, or pandas is not installed.
    """
    pandas = needed("pandas", "table", "rlnet.read")
    runs = read_runs([Path(folder) for folder in folders], trust)
    rows = (logged_rows if log else final_rows)(runs)
    return pandas.DataFrame(rows, columns=columns(rows))


def read_runs(folders: Sequence[Path], trust: bool) -> list[Finished]:
    """The runs in some folders, and in those that are sweeps."""
    return [read_run(folder, trust) for folder in run_folders(folders)]
