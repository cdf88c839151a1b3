"""Tables of several runs: what stands in them is what the runs' files hold."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from report.test_sweep import finished

import rlnet
from rlnet.commands.table import _show, _table
from rlnet.config import ConfigError
from rlnet.report.table import _column, final_rows, logged_rows, read_runs, run_folders, write_table

pytestmark = pytest.mark.usefixtures("without_pictures")

SMALL = ("env=random_walk", "network=tabular", "steps=640", "log_every=320", "compare_every=320")


def table(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    finished(folder / "0", *SMALL, "seeds=2", "vary.learning_rate=[0.5,0.1]")
    finished(folder / "1", *SMALL, "algo=td0", "seed=7")
    return folder


@pytest.mark.slow
def test_a_row_for_each_member_with_what_its_files_say(sweep):
    rows = final_rows(read_runs([sweep], trust=False))
    assert [(row["run"], row["member"], row["seed"]) for row in rows] == [
        *((str(sweep / "0"), m, seed) for m, seed in enumerate((0, 1, 0, 1))),
        (str(sweep / "1"), 0, 7),
    ]
    assert [row["optimizer.learning_rate"] for row in rows[:4]] == [0.5, 0.5, 0.1, 0.1]
    assert [row["algo.name"] for row in rows] == ["q_learning"] * 4 + ["td0"]
    members = json.loads((sweep / "0" / "comparison.json").read_text())["members"]
    assert [row["exact/regret"] for row in rows[:4]] == [one["scores"]["exact/regret"] for one in members]
    assert "exact/regret" not in rows[4], "of prediction"
    log = table(sweep / "0" / "metrics.csv")
    assert rows[2]["return/mean"] == float(log[-2]["return/mean"])
    assert all(row["complete"] for row in rows)


def test_logged_rows_are_those_of_metrics_csv(sweep):
    rows = logged_rows(read_runs([sweep / "0"], trust=False))
    log = table(sweep / "0" / "metrics.csv")
    assert [(row["step"], row["member"]) for row in rows] == [(int(one["step"]), int(one["member"])) for one in log]
    np.testing.assert_array_equal(
        [row["exact/v_rmse"] for row in rows], [float(one["exact/v_rmse"] or "nan") for one in log]
    )


def test_the_command_writes_csv_and_prints(sweep, tmp_path, capsys):
    out = tmp_path / "all.csv"
    assert _table([str(sweep / "1"), str(sweep / "0")], out) == 0
    said = capsys.readouterr().out
    assert f"Written: {out}" in said
    rows = table(out)
    assert [row["run"] for row in rows] == [str(sweep / "1"), *[str(sweep / "0")] * 4]
    regrets = [row["exact/regret"] for row in final_rows(read_runs([sweep / "0"], trust=False))]
    assert [float(row["exact/regret"]) for row in rows[1:]] == regrets
    assert rows[0]["exact/regret"] == ""
    assert _table([str(sweep)], out) == 0, "a table of runs may be written again"


def test_nothing_of_others_is_overwritten(sweep, tmp_path):
    own = tmp_path / "notes.csv"
    own.write_text("mine\n")
    rows = final_rows(read_runs([sweep / "1"], trust=False))
    for path, said in (
        (own, "is there already, and is no table of runs"),
        (sweep / "0" / "metrics.csv", "lies in the folder of a run"),
        (tmp_path / "table.xlsx", r"must be the name of a \.csv or \.parquet file"),
        (tmp_path / "nowhere" / "table.csv", "in a folder that there is"),
    ):
        with pytest.raises(ConfigError, match=said):
            write_table(path, rows)
    assert own.read_text() == "mine\n"
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigError):
            read_runs([folder], trust=False)


def test_parquet_holds_the_same(sweep, tmp_path, monkeypatch):
    rows, path = final_rows(read_runs([sweep], trust=False)), tmp_path / "table.parquet"
    try:
        parquet = pytest.importorskip("pyarrow.parquet")
    except pytest.skip.Exception:
        with pytest.raises(ConfigError, match=r"needs pyarrow, which is not installed: pip install 'rlnet\[table\]'"):
            write_table(path, rows)
        return
    write_table(path, rows)
    content = parquet.read_table(path).to_pylist()
    assert [row["exact/v_rmse"] for row in content] == [row["exact/v_rmse"] for row in rows]
    assert [row["seed"] for row in content] == [0, 1, 0, 1, 7]


def test_columns_have_one_type():
    assert _column([1, None, 2.5]) == [1.0, None, 2.5]
    assert _column([1, "a", None]) == ["1", "a", None]
    assert _column([True, False]) == [True, False]


def test_read_gives_a_dataframe_or_says_what_is_missing(sweep):
    try:
        import pandas
    except ImportError:
        with pytest.raises(ConfigError, match=r"rlnet\.read needs pandas, which is not installed: pip install"):
            rlnet.read(sweep)
        return
    frame = rlnet.read(sweep)
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == 5
    assert frame.groupby("algo.name").size().to_dict() == {"q_learning": 4, "td0": 1}
    assert len(rlnet.read(sweep / "1", log=True)) == 2


def test_a_run_that_is_named_twice_counts_once(sweep, monkeypatch):
    monkeypatch.chdir(sweep)
    assert run_folders([Path("1"), sweep / "1", Path("2/../1")]) == [Path("1")]
    assert len(run_folders([sweep, Path("1")])) == len(run_folders([sweep]))


@pytest.mark.parametrize(("width", "there", "left"), [("80", "gamma", "39 settings"), ("2000", "algo.hyper.k39", None)])
def test_the_printed_table_has_the_settings_that_there_is_room_for(width, there, left, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", width)
    some = {f"algo.hyper.k{k}": 0.123456 for k in range(40)}
    scores = {"return/mean": 0.5, "exact/regret": 0.25}
    rows = [{"run": "0", "seed": 0, "gamma": 0.9, **some, **scores}, {"run": "1", "seed": 0, "gamma": 0.8, **scores}]
    _show(rows)
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("run", "seed", "return/mean", "exact/regret", "0.25", there))
    assert ("settings that there is no room for" in printed) == (left is not None)
    assert left is None or left in printed
