"""Environments with processes of their own: those of all members work at the same time, and all answer a failure."""

import os
import signal
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import wrong_environments
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from support import composed

import rlnet
from rlnet.config import RunFailed
from rlnet.envs import GymnasiumSimulation, make

PATIENCE = 60.0  # seconds


class Meeting(gymnasium.Env):
    """A step ends when `guests` environments are in theirs, or else in an error."""

    observation_space, action_space = spaces.Box(0.0, 1.0, (1,), np.float32), spaces.Discrete(2)

    def __init__(self, room: Path, name: str, guests: int) -> None:
        self.room, self.name, self.guests, self.count = room, name, guests, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.count += 1
        (self.room / f"{self.count} {self.name}").touch()
        late = time.monotonic() + PATIENCE
        while len(list(self.room.glob(f"{self.count} *"))) < self.guests:
            if time.monotonic() > late:
                raise TimeoutError("the others wait for their turn")
            time.sleep(0.01)
        return np.zeros(1, np.float32), float(self.count), False, False, {}


def processes(makers):
    """A vector environment of one process for each maker."""
    return AsyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)


def test_the_processes_of_all_members_step_at_the_same_time(tmp_path):
    def member(m):
        return processes([lambda n=n: Meeting(tmp_path, f"{m} {n}", guests=6) for n in range(2)])

    simulation = GymnasiumSimulation([member(m) for m in range(3)], [0, 1, 2])
    simulation.reset()
    steps = [simulation.step(np.zeros((3, 2), np.int64)) for _ in range(2)]
    simulation.close()
    assert [step.reward.tolist() for step in steps] == [[[1.0] * 2] * 3, [[2.0] * 2] * 3]


def test_of_members_that_fail_together_the_first_is_named_and_all_can_be_closed():
    def member(mistake):
        return processes([lambda: wrong_environments.Wrong(mistake, at=2)])

    mistakes = ["", "raise", "", "raise"]
    simulation = GymnasiumSimulation([member(mistake) for mistake in mistakes], [5, 6, 7, 8], "Wrong-v0")
    simulation.reset()
    simulation.step(np.zeros((4, 1), np.int64))
    with pytest.raises(RunFailed, match=r"Wrong-v0: its step raised ValueError.* \(in step 2 of seed 6\)"):
        simulation.step(np.zeros((4, 1), np.int64))
    simulation.close()


class Dies(gymnasium.Env):
    """Its process ends in step `at`, by a signal or an exit code of its own."""

    observation_space, action_space = spaces.Box(0.0, 1.0, (1,), np.float32), spaces.Discrete(2)

    def __init__(self, how: str, at: int) -> None:
        self.how, self.at = how, at

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.at -= 1
        if self.how and not self.at:
            if self.how == "SIGKILL":
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(7)
        return np.zeros(1, np.float32), 0.0, False, False, {}


HOW = {"SIGKILL": "was killed by SIGKILL, as where memory runs out", "exit": "ended by itself, with exit code 7"}


@pytest.mark.parametrize("dying", [0, 1], ids=["first", "last"])
@pytest.mark.parametrize("how", HOW)
def test_a_process_that_ends_is_named_and_all_others_can_be_closed(how, dying):
    def member(how):
        return processes([lambda n=n: Dies(how if n == dying else "", at=2) for n in range(2)])

    vectors = [member(""), member(how), member("")]
    simulation = GymnasiumSimulation(vectors, [5, 6, 7], "Dies-v0")
    simulation.reset()
    simulation.step(np.zeros((3, 2), np.int64))
    said = rf"^env\.id=Dies-v0: its process {HOW[how]} \(in step 2 of seed 6\)$"
    with pytest.raises(RunFailed, match=said):
        simulation.step(np.zeros((3, 2), np.int64))
    simulation.close()
    assert not any(process.is_alive() for vector in vectors for process in vector.processes)


def test_a_process_that_is_gone_before_a_step_is_named():
    vector = processes([lambda: Dies("", at=1)] * 2)
    simulation = GymnasiumSimulation([vector], [5], "Dies-v0")
    simulation.reset()
    vector.processes[0].kill()
    vector.processes[0].join()
    with pytest.raises(RunFailed, match="its process was killed by SIGKILL"):
        simulation.step(np.zeros((1, 2), np.int64))
    simulation.close()
    assert not vector.processes[1].is_alive()


class Scarce(Dies):
    """Can be made twice, in the process that imported it alone, or cannot be closed."""

    home, left = os.getpid(), 2

    def __init__(self, kind: str) -> None:
        super().__init__("", 0)
        self.kind = kind
        if kind == "twice":
            Scarce.left -= 1
            if Scarce.left < 0:
                raise RuntimeError("two licences are taken")
        if os.getpid() != Scarce.home:
            if kind == "at home":
                os._exit(3)
            if kind == "refusing":
                raise ValueError("5 % of a licence\nand more")

    def close(self):
        if self.kind == "open":
            raise RuntimeError("cannot be closed")


gymnasium.register("Scarce-v0", entry_point=Scarce)


@pytest.mark.parametrize(
    ("kind", "stepping", "said"),
    [
        ("twice", "sync", "cannot be made once more: RuntimeError: two licences are taken"),
        ("at home", "async", r"cannot be made in a process of its own \(env\.stepping=async\)"),
        ("refusing", "async", r"cannot be made in a process of its own .*: ValueError: 5 % of a licence$"),
        ("open", "sync", "its close raised RuntimeError: cannot be closed"),
    ],
)
def test_an_environment_that_is_made_once_and_not_again_is_said(kind, stepping, said, monkeypatch, capfd):
    monkeypatch.setattr(Scarce, "left", 2)
    config = composed("env=gymnasium", "env.id=Scarce-v0", f"env.kwargs={{kind: {kind}}}", f"env.stepping={stepping}")
    with pytest.raises(RunFailed, match=rf"^env\.id=Scarce-v0: {said}"):
        make(config.env).simulate([0, 1], 2)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_that_checkpoints_do_not_hold_them_is_said_once(caplog):
    rlnet.train("env=cartpole", "env.stepping=async", "algo=a2c", "algo.envs=2", steps=200, checkpoint_every=64)
    said = [record.message for record in caplog.records if "cannot be saved" in record.message]
    assert len(said) == 1
    why = "its environments have processes of their own (env.stepping=async); a resumed run begins new episodes"
    assert said[0].endswith(f"cannot be saved: {why}")
