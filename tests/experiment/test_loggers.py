"""Loggers beside metrics.csv, and the hook that sees each row."""

import csv
import sys
import types

import numpy as np
import pytest
from support import composed

import rlnet
from rlnet.config import ConfigError, RunFailed
from rlnet.learning.training_loop import train

pytestmark = pytest.mark.usefixtures("without_pictures")

TINY = (
    "algo.envs=4",
    "algo.rollout=8",
    "env=random_walk",
    "network=tabular",
    "steps=640",
    "log_every=320",
    "compare_every=640",
)


def test_on_row_sees_every_row_of_the_log(tmp_path):
    seen = []
    rlnet.train(
        *TINY, "seeds=2", folder=tmp_path / "run", on_row=lambda step, scores: seen.append((step, dict(scores)))
    )
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    assert [step for step, _ in seen] == [320, 640]
    for k, (_, scores) in enumerate(seen):
        for m in range(2):
            for name in ("return/mean", "exact/regret"):
                np.testing.assert_equal(scores[name][m], float(rows[2 * k + m][name] or "nan"))


@pytest.mark.slow
def test_what_on_row_raises_ends_the_run_which_can_go_on(tmp_path):
    def stop(step, scores):
        raise RunFailed(f"enough at {step}")

    with pytest.raises(RunFailed, match="enough at 320"):
        train(composed(*TINY), tmp_path / "run", on_row=stop)
    again = train(composed(*TINY, f"resume={tmp_path}/run"), tmp_path / "run")
    assert int(again.run.steps.min()) == 640


def test_without_loggers_there_is_metrics_csv_alone(tmp_path):
    train(composed(*TINY, "logger=none"), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("events.out*"))
    assert (tmp_path / "run" / "metrics.csv").is_file()


@pytest.fixture
def service(monkeypatch):
    """Stands for wandb: what is logged, by run."""
    runs = {}

    class Run:
        def __init__(self, **own):
            self.id = own["id"] or f"id{len(runs)}"
            self.logged = runs.setdefault(self.id, [])
            self.own = own

        def log(self, values, step):
            self.logged.append((step, values))

        def finish(self):
            self.logged.append("finished")

    module = types.ModuleType("wandb")
    module.init, module.Image, module.runs = (lambda **own: Run(**own)), lambda x: x.shape, runs
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_wandb_gets_the_means_and_a_run_goes_on_under_its_identity(tmp_path, service):
    train(composed(*TINY, "logger=[tensorboard,wandb]", "seeds=2"), tmp_path / "run")
    (logged,) = service.runs.values()
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    numbers = [(step, values) for step, values in logged[:-1] if "return/mean" in values]
    assert [step for step, _ in numbers] == [320, 640]
    assert numbers[1][1]["exact/regret"] == pytest.approx(np.mean([float(r["exact/regret"]) for r in rows[2:]]))
    assert logged[-1] == "finished"
    assert list((tmp_path / "run").glob("events.out*"))
    train(composed(*TINY, "logger=wandb", "seeds=2", "steps=960", f"resume={tmp_path}/run"), tmp_path / "run")
    assert list(service.runs) == ["id0"]


def test_a_service_that_does_not_let_us_in_is_told_before_anything_is_learned(tmp_path, service):
    def refuse(**own):
        raise ValueError("no API key\nconfigured")

    service.init = refuse
    with pytest.raises(
        ConfigError, match=r"logger=wandb: cannot log \(ValueError: no API key configured\); logger=none"
    ):
        train(composed(*TINY, "logger=wandb"), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.csv").exists(), "the folder may be used again"


def test_a_service_that_breaks_off_ends_the_run_in_a_sentence(tmp_path, service):
    made = service.init

    def breaks(**own):
        run = made(**own)
        run.log = lambda values, step: {}[step]
        return run

    service.init = breaks
    with pytest.raises(RunFailed, match=r"logger=wandb: cannot log \(KeyError: 320\); logger=none"):
        train(composed(*TINY, "logger=wandb"), tmp_path / "run")


def test_a_logger_that_is_not_installed_or_not_known_is_named_at_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"logger=mlflow needs mlflow"):
        train(composed(*TINY, "logger=mlflow"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for wrong in ("csv", "[tensorboard,tensorboard]", "[none,wandb]"):
        with pytest.raises(ConfigError, match="must be tensorboard, wandb, mlflow, none, or a list"):
            composed(*TINY, f"logger={wrong}")


def test_mlflow_keeps_the_means_in_its_store(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    train(composed(*TINY, "logger=mlflow"), tmp_path / "run")
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("rlnet").experiment_id])
    assert [one.step for one in client.get_metric_history(run.info.run_id, "return/mean")] == [320, 640]
    assert run.data.params["env.name"] == "random_walk"
