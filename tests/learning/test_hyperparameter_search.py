"""Search with Optuna: what is asked for is checked at once; a study goes on when one of its processes is killed."""

import json
import sys

import numpy as np
import pytest
from commands.test_sweeps import same_results
from support import composed, quick_rows

from rlnet.config import ConfigError
from rlnet.config.search import SearchConfig
from rlnet.config.search_ranges import Range, check_search
from rlnet.experiment import sweeps
from rlnet.learning.hyperparameter_search import search
from rlnet.learning.training_loop import train

SMALL = ("env=random_walk", "network=tabular", "algo.envs=4", "algo.rollout=8", "steps=640", "log_every=160")
TINY = (*SMALL, "compare_every=160", "compare_share=1", "checkpoint_every=160")
SPACE = "search.space.learning_rate=[1e-3,1.0,log]"


def test_ranges_are_read_by_full_path():
    config = composed(*TINY, "search=optuna", SPACE, "search.space.schedule.end=[0,0.5]")
    assert check_search(config) == {
        "optimizer.learning_rate": Range(1e-3, 1.0, log=True),
        "schedule.end": Range(0.0, 0.5, log=False),
    }
    assert composed(*TINY, "search=random", SPACE).search.sampler == "random"
    assert composed(*TINY, "search=hyperband", SPACE).search.pruner == "hyperband"
    assert composed(*TINY).search is None


@pytest.mark.parametrize(
    ("overrides", "said"),
    quick_rows(
        [
            ((), "search.space={}: must be one range or more"),
            (("search.space.learning_rat=[0,1]",), "search.space.learning_rat: there is no such setting; did you mean"),
            (("search.space.algo.rollout=[1,8]",), "because it decides shapes"),
            (("search.space.learning_rate=[1,0.1]",), "the first number must be below the second"),
            (("search.space.learning_rate=[0,1,log]",), "a logarithmic scale needs numbers above 0"),
            (("search.space.learning_rate=0.1",), r"must be a range \[low, high\]"),
            ((SPACE, "vary.learning_rate=[0.1,0.2]"), "is varied; leave one of both out"),
            ((SPACE, "search.sampler=grid"), "search.sampler=grid: allowed are tpe, random"),
            ((SPACE, "search.direction=up"), "search.direction=up: allowed are minimize, maximize, null"),
            (
                (SPACE, "search.objective=episode/length"),
                "episode/length: more of it may be better or worse; say which by",
            ),
            ((SPACE, "search.objective=exact/q_bias"), "exact/q_bias: more of it may be better or worse"),
            ((SPACE, "search.trials=0"), "search.trials=0: must be at least 1"),
            ((SPACE, "resume=somewhere"), "leave resume= out"),
        ],
        7,
    ),
)
def test_a_search_that_cannot_be_is_refused_at_once(overrides, said):
    with pytest.raises(ConfigError, match=said):
        composed(*TINY, "search=optuna", *overrides)


@pytest.mark.parametrize(
    ("objective", "maximized"),
    [
        ("exact/regret", False),
        ("exact/nash_conv", False),
        ("exact/nash_conv_search", False),
        ("exact/v_rmse", False),
        ("exact/greedy_return", True),
        ("exact/return", True),
        ("return/mean", True),
        ("exact/pass@8", True),
    ],
)
def test_the_direction_of_an_objective_follows_from_its_name_unless_it_is_given(objective, maximized):
    assert SearchConfig(objective=objective).maximized == maximized
    assert SearchConfig(objective=objective, direction="maximize").maximized
    assert not SearchConfig(objective=objective, direction="minimize").maximized


def test_without_optuna_one_sentence_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match="search=optuna needs optuna"):
        search(composed(*TINY, "search=optuna", SPACE), tmp_path / "study", [])
    assert not (tmp_path / "study").exists()


@pytest.fixture
def optuna():
    return pytest.importorskip("optuna")


def journal(optuna, folder):
    backend = optuna.storages.journal
    path = str(folder / "study.journal")
    storage = optuna.storages.JournalStorage(backend.JournalFileBackend(path, backend.JournalFileOpenLock(path)))
    return optuna.load_study(study_name="rlnet", storage=storage)


def test_the_objective_of_a_trial_is_the_final_score_of_its_run(optuna, tmp_path):
    folder = tmp_path / "study"
    config = composed(*TINY, "search=optuna", SPACE, "search.trials=3", "search.pruner=none", "seeds=2")
    said = search(config, folder, TINY)
    trials = journal(optuna, folder).trials
    assert [one.state.name for one in trials] == ["COMPLETE"] * 3
    for one in trials:
        content = json.loads((folder / f"trial_{one.number}" / "comparison.json").read_text())
        assert one.value == pytest.approx(np.mean([m["scores"]["exact/regret"] for m in content["members"]]))
        stored = (folder / f"trial_{one.number}" / ".hydra" / "overrides.yaml").read_text()
        assert f"optimizer.learning_rate={one.params['optimizer.learning_rate']!r}" in stored
    assert "Of 3 trials (0 pruned) trial" in said
    assert len(sweeps.read_records(folder)) == 3
    search(config, folder, TINY)
    assert len(journal(optuna, folder).trials) == 3, "a study that is done is done"
    again = tmp_path / "again"
    search(config, again, TINY)
    assert [one.params for one in journal(optuna, again).trials] == [one.params for one in trials]


def test_a_trial_whose_process_was_killed_goes_on_and_ends_bit_equal(optuna, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(config, place, given, on_row):
        def stop(step, scores):
            if step >= 320:
                raise Killed

        train(config, place, given, stop)

    folder = tmp_path / "study"
    config = composed(*TINY, "search=optuna", SPACE, "search.trials=2", "search.pruner=none")
    with monkeypatch.context() as patch:
        patch.setattr("rlnet.learning.hyperparameter_search.train", killed)
        with pytest.raises(Killed):
            search(config, folder, TINY)
    assert [one.state.name for one in journal(optuna, folder).trials] == ["RUNNING"]
    search(config, folder, TINY)
    trials = journal(optuna, folder).trials
    assert [one.state.name for one in trials] == ["COMPLETE"] * 2
    rate = trials[0].params["optimizer.learning_rate"]
    train(composed(*TINY, f"optimizer.learning_rate={rate!r}"), tmp_path / "alone")
    same_results(folder / "trial_0", tmp_path / "alone")


def test_an_objective_that_is_not_logged_and_a_storage_that_is_not_there(optuna, tmp_path):
    for wrong, said in (
        ("search.objective=exact/nash_conv", "search.objective=exact/nash_conv: is not logged by this run; what is: "),
        ("search.storage=sqlite:////nowhere/x.db", "search.storage=sqlite:////nowhere/x.db: cannot be used"),
        ("search.space.gamma=[0.5,1.5]", r"gamma=1\.5: must be in \[0, 1\]"),
    ):
        with pytest.raises(ConfigError, match=said):
            search(composed(*TINY, "search=optuna", SPACE, wrong), tmp_path / wrong[-6:-2].replace("/", "_"), TINY)


def test_a_database_whose_tables_another_process_makes_just_now_is_tried_again(optuna, tmp_path, monkeypatch):
    """SQLite says "table studies already exists" to whichever of two processes comes second."""
    create, tried = optuna.create_study, []

    def busy(**options):
        tried.append(options["storage"])
        if len(tried) == 1:
            raise RuntimeError("table studies already exists")
        return create(**options)

    monkeypatch.setattr(optuna, "create_study", busy)
    monkeypatch.setattr("rlnet.learning.hyperparameter_search.PAUSE", 0.0)
    storage = f"search.storage=sqlite:///{tmp_path}/x.db"
    search(composed(*TINY, "search=optuna", SPACE, "search.trials=1", storage), tmp_path / "study", TINY)
    assert len(tried) == 2
    assert len(optuna.load_study(study_name="rlnet", storage=tried[0]).trials) == 1
