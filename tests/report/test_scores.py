"""The table of scores and the list of files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from report_console import console, text_of

from rlnet.report.terminal import show_files, show_scores


def test_scores_of_one_and_of_eight_members():
    out = console()
    show_scores(out, "one", {"exact/regret": [0.25], "exact/coverage": [0.5]}, {"exact/regret": "small", "π": "greedy"})
    text = text_of(out)
    assert re.search(r"exact/regret +0\.25 +J\* − J\(π\), what the policy loses; small", text)
    assert "50.0 %" in text
    assert "π: greedy" in text
    out = console(140)
    show_scores(out, "eight", {"exact/v_rmse": np.arange(8.0), "exact/q_bias": [-1e-12] * 8})
    assert re.search(r"exact/v_rmse +3\.5 +0 +7 ", text_of(out))
    assert re.search(r"exact/q_bias +≈ 0 +≈ 0 +≈ 0 ", text_of(out))
    assert "over 8 members" in text_of(out)


def test_scores_that_are_not_finite_are_said():
    out = console(120)
    show_scores(out, "bad", {"exact/return": [-np.inf, np.inf, 0.0], "exact/regret": [np.nan, 1.0, 2.0]})
    assert re.search(r"exact/return +nan +-inf +inf ", text_of(out))
    assert "exact/regret: not finite for 1 of 3 members" in text_of(out)
    with pytest.raises(ValueError, match="one value per member"):
        show_scores(out, "uneven", {"a": [1.0], "b": [1.0, 2.0]})
    with pytest.raises(ValueError, match="one value per member"):
        show_scores(out, "empty", {"a": []})


def test_files_are_listed_whole_with_what_they_are(tmp_path: Path):
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    (folder / "metrics.csv").write_text("step")
    out = console(40)
    show_files(out, [folder / "metrics.csv", folder / "nothing.txt"])
    lines = text_of(out).splitlines()
    assert f"  {folder / 'metrics.csv'}  every logged number, a row per step and member" in lines
    assert any(line.endswith("missing") for line in lines)
