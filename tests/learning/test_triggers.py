"""Now and then: at the cadence that was asked for, or less often where that would cost too much."""

import csv
import logging

import pytest
from support import composed

from rlnet.learning import training_loop
from rlnet.learning.training_state import TrainingState
from rlnet.learning.triggers import GRACE, Cadence, Capped

pytestmark = pytest.mark.usefixtures("without_pictures")


class Clock:
    """A clock that tests set forward."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def times_done(share: float, cost: float, steps: int = 400, every: int = 10, step_seconds: float = 0.1):
    """(the steps at which it was done, the share of the time that it took): one step takes `step_seconds`."""
    clock, done = Clock(), []
    cadence = Capped(every, 0, share, clock)
    for step in range(1, steps + 1):
        clock.now += step_seconds
        if cadence.due(step):
            with cadence.timed():
                clock.now += cost
            done.append(step)
    return done, cadence.share


def test_a_cadence_is_due_once_each_time_it_has_gone_by():
    cadence = Cadence(10, 7)
    assert [step for step in (8, 9, 10, 11, 25, 26, 29, 30) if cadence.due(step)] == [10, 25, 30]


def test_what_is_cheap_is_done_at_its_cadence():
    done, share = times_done(share=0.1, cost=0.01)
    assert done == list(range(10, 401, 10))
    assert share < 0.02


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_what_is_dear_is_done_less_often_and_keeps_within_its_share(share):
    done, taken = times_done(share=share, cost=2.0, steps=4000)
    assert 2 < len(done) < 400
    assert taken <= share + (GRACE + 2.0) / (400 + 2.0 * len(done))
    assert taken > 0.8 * share, "but it is done as often as it may be"


def test_a_share_of_one_never_stretches():
    assert len(times_done(share=1.0, cost=50.0)[0]) == 40


@pytest.mark.slow
def test_a_run_says_so_once_and_compares_less_often(tmp_path, monkeypatch, caplog):
    """Comparisons that take a second each of a clock that the run's own steps hardly move."""
    clock, compare = Clock(), TrainingState.compare

    def slow(self):
        clock.now += 1.0
        return compare(self)

    monkeypatch.setattr(TrainingState, "compare", slow)
    monkeypatch.setattr(training_loop, "Capped", lambda *args, **more: Capped(*args, clock, **more))
    options = ("env=random_walk", "gamma=0.9", "steps=800", "algo.envs=4", "log_every=80", "compare_every=80")
    with caplog.at_level(logging.WARNING, "rlnet.learning.triggers"):
        training_loop.train(composed(*options), tmp_path / "run")
    assert len(caplog.messages) == 1
    assert "compare_share=0.1" in caplog.messages[0]
    assert "not every 80" in caplog.messages[0]
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    scored = [int(row["step"]) for row in rows if row["exact/regret"]]
    assert len(scored) < 10
    assert scored[-1] == 800, "the end is always compared"
    assert float(rows[-1]["time/compare_share"]) > 0.1


def test_checkpoints_that_take_long_are_written_less_often(tmp_path, monkeypatch, caplog):
    """Each takes 4 seconds of a clock that the run's own steps move by 2 from one checkpoint to the next."""
    clock, write, collect, written = Clock(), training_loop.Loop.checkpoint, TrainingState.collect, []

    def slow(self):
        clock.now += 4.0
        written.append(self.step)
        return write(self)

    def timed(self):
        clock.now += 2.0 / 10
        return collect(self)

    monkeypatch.setattr(training_loop.Loop, "checkpoint", slow)
    monkeypatch.setattr(TrainingState, "collect", timed)
    monkeypatch.setattr(training_loop, "Capped", lambda *args, **more: Capped(*args, clock, **more))
    own = ("env=random_walk", "gamma=0.9", "steps=8000", "algo.envs=4", "algo.rollout=2", "checkpoint_every=80")
    with caplog.at_level(logging.WARNING, "rlnet.learning.triggers"):
        training_loop.train(composed(*own, "log_every=8000", "compare_every=8000"), tmp_path / "run")
    # 200 seconds of steps and 10 of grace: 4·n ≤ 10 + .1·(200 + 4·n), n ≤ 8, and the one at the end.
    assert 7 <= len(written) <= 9
    assert written[-1] == 8000
    assert caplog.messages == [message for message in caplog.messages if "writing a checkpoint takes 4 s" in message]
    assert len(caplog.messages) == 1
    assert "not every checkpoint_every=80" in caplog.messages[0]
