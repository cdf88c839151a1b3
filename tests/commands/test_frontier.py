"""`rlnet frontier`: what it prints and writes, and one sentence for each file that it cannot use."""

import json
import sys

import numpy as np
import pytest

from rlnet.commands.frontier import main

HEAD = "prompt,reference_passes,reference_samples,tuned_passes,tuned_samples"


def called(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["rlnet frontier", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "200")
    return main()


def written(tmp_path, *lines):
    path = tmp_path / "rates.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_known_rates_give_the_closed_form(tmp_path, monkeypatch, capsys):
    """p = ½ and q = ¾ at twice the divergence that is needed."""
    needed = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    path = written(
        tmp_path, "prompt,reference_rate,tuned_rate,kl,weight", f"a,0.5,0.75,{2 * needed:.15g},3", "b,1,1,0,0"
    )
    out, picture = tmp_path / "out.json", tmp_path / "out.png"
    assert called(monkeypatch, path, "--json", out, "--png", picture) == 0
    found = json.loads(out.read_text())
    assert found["needed_kl"][0] == pytest.approx(needed)
    assert found["tuned"] == [0.75] * 3
    q = found["frontier"][0]
    assert q * np.log(2 * q) + (1 - q) * np.log(2 - 2 * q) == pytest.approx(2 * needed)
    assert found["gap"][0] == pytest.approx(q - 0.75)
    assert found["warnings"] == []
    assert picture.read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert f"{q:.4f}" in said
    assert "exact" in said
    assert "Intervals" not in said  # where there is none
    assert "out.json  the same numbers, for programs" in said
    assert found["numbers"].startswith("[value, low, high]")


def test_what_cannot_be_is_said(tmp_path, monkeypatch, capsys):
    path = written(tmp_path, HEAD, *(f"p{i},{i},32,32,32" for i in range(8)))
    assert called(monkeypatch, path, "--kl", "0.1") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "lies above the frontier" in said
    assert "1 of 8 prompts were never passed by the reference" in said
    path = written(tmp_path, "prompt,reference_rate,tuned_rate", "a,0,0.5", "b,0.5,0.5")
    assert called(monkeypatch, path, "--kl", "9") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 of 2 prompts have a reference pass rate of 0: no policy near the reference can pass them" in said
    path = written(tmp_path, HEAD, "a,0,1,1,1", "b,1,1,1,1", "c,0,1,0,1")
    assert called(monkeypatch, path, "--kl", "0.5") == 0
    assert "fewer than 4 reference samples" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "is empty"),
        ([HEAD], "no line for a prompt"),
        (
            ["prompt,reference_rate,tuned_rat", "a,1,1"],
            "line 1: there is no column 'tuned_rat'; did you mean tuned_rate?",
        ),
        (["reference_rate,tuned_rate", "1,1"], "line 1: the column prompt is missing"),
        (["prompt,reference_rate", "a,1"], "line 1: the tuned policy needs tuned_passes and tuned_samples"),
        (["prompt,reference_rate,tuned_passes", "a,1,1"], "given are tuned_passes"),
        (["prompt,prompt,reference_rate,tuned_rate", "a,a,1,1"], "line 1: the column prompt stands more than once"),
        ([HEAD, "a,1,4,2,4", "b,1,4,2"], "line 3: has 4 fields, not 5"),
        ([HEAD, "a,1,4,2,4", "", "a,1,4,2,4"], "line 4: prompt 'a' is in line 2 already"),
        ([HEAD, "a,5,4,2,4"], "line 2: reference_passes=5 is more than reference_samples=4"),
        ([HEAD, "a,1,4,2,0"], "line 2: tuned_samples='0' must be a whole number of at least 1"),
        ([HEAD, "a,1,4,1.5,2"], "line 2: tuned_passes='1.5' must be a whole number of at least 0"),
        ([HEAD, "a,-1,4,1,2"], "line 2: reference_passes='-1' must be"),
        ([HEAD, "a,nan,4,1,2"], "line 2: reference_passes='nan' must be"),
        (["prompt,reference_rate,tuned_rate", "a,.5,1.2"], "line 2: tuned_rate='1.2' must be a number from 0 to 1"),
        (["prompt,reference_rate,tuned_rate,weight", "a,1,1,0"], "all weights are 0"),
        (["prompt,reference_rate,tuned_rate,weight", "a,1,1,x"], "line 2: weight='x' must be a number of at least 0"),
        (
            ["prompt,reference_rate,tuned_rate,kl", "a,1,1,1"],
            "line 1: the divergence KL(tuned ‖ reference) is given twice",
        ),
        ([HEAD, 'a,"1,4,2,4'], "is not a CSV file"),
    ],
)
def test_a_file_that_cannot_be_used_ends_in_one_sentence(lines, said, tmp_path, monkeypatch, capsys):
    path = tmp_path / "rates.csv"
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    assert called(monkeypatch, path, "--kl", "1") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}")
    assert error.count("\n") == 1
    assert said in error


def test_the_divergence_must_be_given_and_be_one(tmp_path, monkeypatch, capsys):
    path = written(tmp_path, "prompt,reference_rate,tuned_rate", "a,.5,.6")
    for arguments, said in (
        ((path,), "is missing: a column kl, or --kl MEAN"),
        ((path, "--kl", "-1"), "--kl -1: must be a number of at least 0"),
        ((path, "--kl", "nan"), "--kl nan: must be"),
        ((path, "--kl", "1", "--json", tmp_path / "no" / "x.json"), "in a folder that there is"),
        ((path, "--kl", "1", "--png", tmp_path / "x.pdf"), "must be the name of a .png file"),
        ((tmp_path / "none.csv", "--kl", "1"), "there is no such file"),
    ):
        assert called(monkeypatch, *arguments) == 2
        assert said in capsys.readouterr().err
    path = written(tmp_path, "prompt,reference_rate,tuned_rate,kl", "a,.5,.6,-0.5", "b,.5,.6,x")
    assert called(monkeypatch, path) == 2
    assert "line 3: kl='x' must be a number" in capsys.readouterr().err
    path = written(tmp_path, "prompt,reference_rate,tuned_rate,kl", "a,.5,.6,-0.5")
    assert called(monkeypatch, path) == 2
    assert "the mean of the column kl is -0.5" in capsys.readouterr().err
    (tmp_path / "raw.csv").write_bytes(b"prompt\xff\xfe,\x00")
    assert called(monkeypatch, tmp_path / "raw.csv", "--kl", "1") == 2
    assert capsys.readouterr().err.count("\n") == 1
