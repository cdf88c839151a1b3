"""The page of a run: its numbers are those of comparison.json, it needs nothing else, and it runs in a browser."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browser import dumped, needs_browser
from support import ROOT, composed, quick

from rlnet.compare.names import BOUNDS, MEANINGS
from rlnet.config import ConfigError
from rlnet.config.files import read_rows
from rlnet.experiment.comparison_files import rescore
from rlnet.learning.training_loop import train
from rlnet.report.html import number, shown
from rlnet.report.page import write_page
from rlnet.report.sampled import beside_exact
from rlnet.report.summary import show_rescored

RUNS = {
    "grid": ("env=gridworld", "steps=2000", "gamma=0.9", "network=tabular"),
    "seeds": ("env=random_walk", "algo=td0", "seeds=4", "steps=1500", "gamma=0.9"),
    "settings": ("env=frozen_lake", "vary.gamma=[0.9,0.95]", "seeds=3", "steps=600", "network=tabular"),
}


class Page(HTMLParser):
    """What the page shows: numbers by score, whatever is loaded from elsewhere, and the text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.numbers: dict[str, list[float]] = {}
        self.loaded, self.text, self._row = [], [], None
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self._row = attrs.get("data-score", self._row if tag == "td" else None)
        if tag == "td" and self._row and "data-value" in attrs:
            self.numbers.setdefault(self._row, []).append(float(attrs["data-value"]))
        self.loaded += [attrs[key] for key in ("src", "href") if key in attrs]

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, tuple[Path, Page]]:
    found = {}
    for name, options in RUNS.items():
        folder = tmp_path_factory.mktemp("runs") / name
        train(composed(*options), folder)
        found[name] = folder, Page(write_page(folder))
    return found


@pytest.mark.parametrize("name", RUNS)
def test_the_numbers_on_the_page_are_those_of_comparison_json(pages, name):
    folder, page = pages[name]
    aggregate = json.loads((folder / "comparison.json").read_text())["aggregate"]
    assert set(page.numbers) == set(aggregate), "every score is on the page"
    assert set(aggregate) <= set(MEANINGS)
    for score, numbers in aggregate.items():
        wanted = [numbers["mean"]]
        if name != "grid" and score not in BOUNDS.values():
            wanted = [numbers["iqm"], numbers["mean"]]
        np.testing.assert_array_equal(page.numbers[score], np.array(wanted, dtype=float))


@pytest.mark.parametrize("name", RUNS)
def test_nothing_is_loaded_from_elsewhere(pages, name):
    assert all(link.startswith("data:") for link in pages[name][1].loaded)
    assert not re.search("https?:", re.sub(r"<details>.*?</details>", "", pages[name][1].source, flags=re.DOTALL))


def test_the_page_begins_with_the_verdict_and_ends_with_how_to_get_it_again(pages):
    folder, page = pages["grid"]
    verdict = json.loads((folder / "comparison.json").read_text())["verdict"]
    assert verdict in "".join(page.text)
    assert f"python scripts/report.py {folder}" in "".join(page.text)
    assert "step_reward" in page.source, "the configuration"


def test_the_returns_of_training_are_labelled_and_stand_beside_the_exact_one(pages, capsys):
    folder, page = pages["grid"]
    rows = read_rows(folder / "metrics.csv")
    value = json.loads((folder / "comparison.json").read_text())["aggregate"]["exact/return"]["mean"]
    at_the_end = [row | {"return/mean": "1.0", "return/discounted": "0.25"} for row in rows]
    said = beside_exact(at_the_end, value, "reward")
    assert said == (
        f"Discounted return: J(π) = {number(value)} of the judged policy, computed; 0.25 of training episodes at the "
        "end, exploration included. Undiscounted, those earned 1."
    )
    assert "of the reward alone" in beside_exact(at_the_end, value, "reward + 0.1·entropy of the policy")
    assert beside_exact([row | {"return/mean": ""} for row in rows], value, "reward") == ""
    own = beside_exact(rows, value, "reward")
    assert own in "".join(page.text)
    show_rescored(rescore(folder), folder)
    assert own in " ".join(capsys.readouterr().out.split())
    assert 'id="training"' not in pages["settings"][1].source, "settings of several problems have no common J"


def test_the_inspector_knows_every_state(pages):
    folder, page = pages["grid"]
    data = json.loads(re.search(r'id="states">(.*?)</script>', page.source).group(1))
    values = np.load(folder / "values.npz")
    np.testing.assert_allclose(data["v_exact"], values["v_exact"][0], rtol=1e-5)
    np.testing.assert_allclose(data["q"][5], values["q"][0, 5], rtol=1e-5)
    assert data["visits"] == values["visits"][0].tolist()
    cells = re.findall(r'data-s="(\d+)"', page.source)
    n_states = len(data["state"])
    assert sorted(map(int, cells)) == sorted(list(range(n_states)) * 4), "learned, exact, error, visits"


def test_a_population_shows_its_settings_and_the_median_member(pages):
    text = "".join(pages["settings"][1].text)
    assert "gamma=0.9" in text
    assert "gamma=0.95" in text
    assert "Drawn is seed" in text
    assert "(median regret of 3)" in text
    assert "Episodes are cut after 100 steps" in text
    assert "2 problems (γ = 0.9; γ = 0.95) are not ranked against each other" in text


def test_a_run_without_a_model_has_a_page_too(tmp_path):
    train(composed("env=cartpole", "steps=600", "log_every=200"), tmp_path / "run")
    page = Page(write_page(tmp_path / "run"))
    assert "return/mean" in "".join(page.text)
    assert "undiscounted return of training episodes, exploration included" in "".join(page.text)
    assert page.numbers == {}


@pytest.mark.slow
def test_the_diagnosis_stands_on_the_page_where_there_is_one(pages, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(pages["grid"][0], folder)
    parts = {"approximation": 0.1, "bootstrapping": 0.2, "sampling": 0.7}
    regret = {"total": 0.25, "largest": [{"state": 3, "loss": 0.25, "taken": 0, "better": 1}]}
    value = {"of": "Q", "mean_rmse": parts, "mean_share": parts}
    (folder / "diagnosis.json").write_text(json.dumps({"value": value, "regret": regret}))
    text = "".join(Page(write_page(folder)).text)
    assert "70 % of the squared error is sampling and optimisation." in text
    assert "Why they are wrong" in text
    assert re.search(r"row \d+, column \d+\s*0.25\s*↑\s*→", text), "the state that carries the regret, by name"


def test_names_from_outside_cannot_become_markup(pages, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(pages["grid"][0], folder)
    (folder / ".hydra" / "overrides.yaml").write_text("- 'env=<script>alert(1)</script>'\n")
    assert "<script>alert" not in write_page(folder).read_text(encoding="utf-8")


def test_numbers_are_read_easily_and_kept_in_full():
    assert [number(x) for x in (0.123456, 1e-12, float("inf"), "-inf", "nan", 123456.0, -2.5)] == [
        "0.1235", "0", "∞", "−∞", "–", "123,456", "−2.5",
    ]  # fmt: skip
    assert shown("exact/coverage", 0.5) == ("50.0 %", "0.5")
    assert shown("exact/regret", "inf") == ("∞", "inf")


@pytest.mark.slow
def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="there is no such file"):
        write_page(tmp_path)
    script = [sys.executable, str(ROOT / "scripts" / "report.py"), str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


@needs_browser
@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("width", quick([400, 1600], 1))
def test_the_page_runs_in_a_browser_without_an_error_and_fits(pages, tmp_path, name, width):
    """The inspector has filled itself in, nothing was logged to the console, and nothing is wider than the window."""
    page = pages[name][1]
    probe = (
        "<script>window.problems = []; window.onerror = (m) => problems.push(String(m));"
        "console.error = (...m) => problems.push(m.join(' '));"
        "window.addEventListener('load', () => { const s = document.querySelector('[data-s]');"
        "if (s) s.dispatchEvent(new MouseEvent('click', {bubbles: true}));"
        "document.body.dataset.found = JSON.stringify({problems, inner: innerWidth,"
        "wide: document.documentElement.scrollWidth, clicked: s ? Number(s.dataset.s) : null,"
        "inspected: document.getElementById('inspector').textContent}); });</script>"
    )
    file = tmp_path / "probed.html"
    file.write_text(page.source.replace("</head>", probe + "</head>"), encoding="utf-8")
    # Headless windows are not narrower than 500 pixels: a frame is.
    outer = tmp_path / "outer.html"
    outer.write_text(f'<iframe src="probed.html" width="{width}" height="900"></iframe>', encoding="utf-8")
    framed = outer.read_text().replace(
        "</iframe>",
        "</iframe><script>addEventListener('load', () => document.body.append(document.querySelector('iframe')"
        ".contentDocument.body.dataset.found));</script>",
    )
    outer.write_text(framed, encoding="utf-8")
    dom = dumped(outer, "--allow-file-access-from-files")
    found = json.loads(re.search(r"\{&quot;problems.*\}|\{\"problems.*\}", dom).group(0).replace("&quot;", '"'))
    assert found["problems"] == []
    assert found["inner"] == width
    assert found["wide"] <= width
    assert f"state {found['clicked']}" in found["inspected"]
