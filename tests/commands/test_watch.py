"""`rlnet watch`: what is told and drawn is what the policy says and the environment does."""

import shutil
import sys
from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from PIL import Image

import rlnet
from rlnet.commands import report, watch
from rlnet.learning.watching import value_map, watched
from rlnet.report import clip
from rlnet.report.moment import Moment, told

MAP = ("env=gridworld", "network=tabular", "algo.envs=4", "log_every=1000")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("made")
    rlnet.train(*MAP, steps=3_000, seeds=2, folder=base / "map")
    rlnet.train("env=cartpole", "algo=ppo", "algo.rollout=32", "evaluation.every=0", steps=300, folder=base / "pole")
    real = ("env=pendulum", "algo=ppo", "gamma=0.9", "algo.rollout=16", "evaluation.every=0")
    rlnet.train(*real, steps=64, folder=base / "real")
    return base


def called(command, capsys, monkeypatch, *arguments) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["rlnet watch", *map(str, arguments)])
    code = command.main()
    return code, *capsys.readouterr()


def play(policy, mode=None, **chosen):
    return list(
        watched(policy, **({"render_mode": mode, "episodes": 1, "seed": 0, "sample": False, "most": 300} | chosen))
    )


@pytest.mark.slow
def test_moments_are_those_of_gymnasium_and_of_the_policy(runs):
    policy = rlnet.load(runs / "pole")
    env = gymnasium.make("CartPole-v1")
    obs, _ = env.reset(seed=7)
    ret = 0.0
    for moment in play(policy, seed=7):
        if moment.action is None:
            assert moment.end == "the episode ended"
            break
        assert moment.value == policy.value(obs)
        np.testing.assert_array_equal(moment.policy, policy.probabilities(obs))
        assert moment.action == policy(obs)
        obs, reward, *_ = env.step(int(moment.action))
        ret += reward
    assert moment.ret == ret
    env.close()


def test_wrappers_of_the_run_are_watched_too(tmp_path):
    wrappers = "env.wrappers=[{TimeLimit:{max_episode_steps:3}},TimeAwareObservation]"
    run = ("env=cartpole", wrappers, "algo=ppo", "algo.rollout=8", "evaluation.every=0")
    policy = rlnet.train(*run, steps=32, folder=tmp_path / "run").policy
    told = play(policy)
    assert [m.step for m in told] == [0, 1, 2, 3]
    assert told[-1].end == "the time limit ended the episode"


class Blank(gymnasium.Env):
    """Shows no number at all, cannot be drawn, and ends in the first step."""

    observation_space, action_space = gymnasium.spaces.Box(0, 1, (0,)), gymnasium.spaces.Discrete(2)

    def __init__(self):
        pass

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(0, np.float32), {}

    def step(self, action):
        return np.zeros(0, np.float32), float(action), True, False, {}


def test_what_shows_nothing_and_knows_no_render_mode(tmp_path, monkeypatch):
    monkeypatch.setitem(gymnasium.registry, "Blank-v0", gymnasium.envs.registration.EnvSpec("Blank-v0", Blank))
    run = ("env=gymnasium", "env.id=Blank-v0", "algo=ppo", "algo.rollout=8", "evaluation.every=0")
    told = play(rlnet.train(*run, steps=32, folder=tmp_path / "run").policy)
    assert [m.end for m in told] == ["", "the episode ended"]
    assert told[-1].ret in (0.0, 1.0)


class Weary(gymnasium.Env):
    """Counts its actions from 4, and fails after three steps of every episode."""

    observation_space = gymnasium.spaces.Discrete(5, start=2)
    action_space = gymnasium.spaces.Discrete(2, start=4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.age = 0
        return 2, {}

    def step(self, action):
        self.age += 1
        if action not in (4, 5) or (self.age > 2 and not self.trains):
            raise KeyError(action)
        return 2 + self.age, 1.0, self.age > 2 and self.trains, False, {}


class Numbered:
    """Actions as highway-env names them."""

    actions: ClassVar = {0: "NOOP", 1: "FIRE_UP"}


def test_actions_have_the_names_of_the_environment_and_its_failures_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(gymnasium.registry, "Weary-v0", gymnasium.envs.registration.EnvSpec("Weary-v0", Weary))
    monkeypatch.setattr(Weary, "trains", True, raising=False)
    run = ("env=gymnasium", "env.id=Weary-v0", "algo=q_learning", "network=tabular", "env.truth=none", "algo.envs=2")
    policy = rlnet.train(*run, "evaluation.every=0", steps=32, folder=tmp_path / "run").policy
    moments = play(policy)
    assert [m.action for m in moments[:-1]] == [4 + m.number for m in moments[:-1]]
    assert [m.state for m in moments] == [0, 1, 2, 3]
    lines = told(moments[0]).split("\n")[1:]
    assert [line[4] for line in lines] == ["4", "5"]
    assert [line[2] == ">" for line in lines].index(True) == moments[0].number
    for given in ({"get_action_meanings": lambda self: ["NOOP", "FIRE_UP"]}, {"action_type": Numbered}):
        with monkeypatch.context() as patch:
            for name, value in given.items():
                patch.setattr(Weary, name, value, raising=False)
            assert play(policy)[0].names == ("noop", "fire up")
    with monkeypatch.context() as patch:
        patch.setattr(Weary, "get_action_meanings", lambda self: ["NOOP"], raising=False)  # of others
        assert play(policy)[0].names == ("4", "5")
    monkeypatch.setattr(Weary, "trains", False)
    with pytest.raises(rlnet.RunFailed, match=r"^env.id=Weary-v0: failed while it was watched: its step raised KeyEr"):
        play(policy)


def test_sampled_episodes_follow_their_seed(runs):
    policy = rlnet.load(runs / "pole")
    first, again, other = (play(policy, sample=True, seed=seed) for seed in (3, 3, 4))
    assert [m.action for m in first] == [m.action for m in again]
    assert [m.action for m in first] != [m.action for m in other]
    assert [m.episode for m in play(policy, episodes=2, most=3)] == [1] * 4 + [2] * 4


def test_a_map_is_told_with_values_and_an_agent(runs, capsys, monkeypatch):
    code, out, _ = called(watch, capsys, monkeypatch, runs / "map", "steps=2", "member=1")
    assert code == 0
    assert "learned V" in out
    assert out.count("@") == 3
    policy = rlnet.load(runs / "map", 1)
    assert (
        f"V(s) = {policy.value(int(np.flatnonzero(policy.trained.problem.mdp.start)[0])):.4g}".replace("-", "−") in out
    )
    assert "π = " in out
    values, chosen = value_map(policy)
    np.testing.assert_allclose(values, policy.value(np.arange(len(values))))
    assert np.isin(chosen.sum(1), (0, 1)).all()


def test_real_actions_are_told_as_numbers(runs, capsys, monkeypatch):
    code, out, _ = called(watch, capsys, monkeypatch, runs / "real", "steps=1", "render=none", "episodes=2")
    assert code == 0
    assert out.count(": [") == 2
    assert "Return of 2 episodes: mean" in out


@pytest.mark.slow
def test_a_film_has_a_picture_for_every_moment_and_keeps_within_a_page(runs, tmp_path, capsys, monkeypatch):
    path = tmp_path / "film.gif"
    code, out, _ = called(watch, capsys, monkeypatch, runs / "map", "render=gif", f"out={path}", "steps=6", "fps=10")
    assert (code, out.strip()) == (0, f"Written: {path}")
    moments = play(rlnet.load(runs / "map"), most=6)
    with Image.open(path) as film:
        assert film.n_frames == len(moments)
        assert film.info["loop"] == 0
    noise = [Image.fromarray(np.random.default_rng(k).integers(0, 255, (80, 100, 3), np.uint8)) for k in range(34)]
    monkeypatch.setattr(clip, "MOST_BYTES", 60_000)
    assert len(clip.small_gif(noise, 30)) <= 60_000


def test_bars_of_a_panel_grow_with_values_and_probabilities():
    def blue(q):
        moment = Moment(1, 0, None, None, 0, 0.0, 0.0, None, np.array(q), np.array([0.5, 0.5]), ("a", "b"))
        (image,) = clip.draw([moment])
        pixels = np.asarray(image).reshape(-1, 3)
        return (pixels == (0, 0x72, 0xB2)).all(1).sum()

    assert blue([0.0, 1.0]) < blue([1.0, 1.0])


@pytest.mark.slow
def test_the_page_holds_a_clip_where_somebody_asks_for_one(runs, tmp_path, capsys, monkeypatch):
    folder = shutil.copytree(runs / "map", tmp_path / "run")
    assert called(report, capsys, monkeypatch, folder)[0] == 0
    assert 'id="clip"' not in (folder / "report.html").read_text(encoding="utf-8")
    monkeypatch.setattr(clip, "MOST_FRAMES", 10)
    code, _, err = called(report, capsys, monkeypatch, folder, "clip=true")
    assert (code, err) == (0, "")
    assert "data:image/gif;base64,R0lGOD" in (folder / "report.html").read_text(encoding="utf-8")
    (folder / "clip.gif").write_bytes(b"<script>")
    code, _, err = called(report, capsys, monkeypatch, folder)
    assert code == 2
    assert "clip.gif: is no GIF" in err


@pytest.mark.parametrize(
    ("run", "settings", "said"),
    [
        ("pole", ["render=ansi"], "render=ansi: env=cartpole can be shown as human, gif, mp4, none"),
        ("map", ["render=human"], "render=human: env=gridworld can be shown as ansi, gif, mp4, none"),
        ("map", ["member=2"], "member=2: must be in 0..1"),
        ("map", ["episodes=0"], "episodes=0: must be a whole number of at least 1"),
        ("map", ["seed=-1"], "seed=-1: must be a whole number of at least 0"),
        ("map", ["seed=9223372036854775808"], "seed=9223372036854775808: must be a whole number of at least 0, below"),
        ("map", ["fps=0"], "fps=0: must be a number above 0"),
        ("map", ["render=avi"], "render=avi: allowed are auto, ansi, human, gif, mp4, none"),
        ("map", ["sample=yes"], "sample=yes: allowed are true, false"),
        ("map", ["out=x.gif"], "out=x.gif: only render=gif and render=mp4 write a file"),
        (
            "map",
            ["render=gif", "out=nowhere/x.gif"],
            "out=nowhere/x.gif: must be the name of a .gif file in a folder",
        ),
        ("map", ["render=gif", "out=x.png"], "out=x.png: must be the name of a .gif file"),
        ("map", ["render=mp4", "out=x.gif"], "out=x.gif: must be the name of a .mp4 file"),
        ("map", ["speed=3"], "speed=3: must be KEY=VALUE with one of the keys render"),
        ("map", ["seed=1", "seed=2"], "seed=2: seed is given more than once"),
        ("none", [], "there is no such folder"),
    ],
)
def test_what_cannot_be_watched_ends_in_a_sentence(runs, run, settings, said, capsys, monkeypatch):
    before = sorted((runs / "map").iterdir())
    code, out, err = called(watch, capsys, monkeypatch, runs / run, *settings)
    assert (code, out) == (2, "")
    assert said in err
    assert sorted((runs / "map").iterdir()) == before


def test_a_clip_that_cannot_be_written_is_not_played(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(watch, "write_clip", None)
    (tmp_path / "x.gif").mkdir()
    for _ in range(2):
        code, out, err = called(watch, capsys, monkeypatch, runs / "map", "render=gif", f"out={tmp_path / 'x.gif'}")
        assert (code, out) == (2, "")
        assert f"out={tmp_path / 'x.gif'}: cannot be written" in err
        if (tmp_path / "x.gif").is_dir():
            (tmp_path / "x.gif").rmdir()
            monkeypatch.setattr("os.access", lambda *_: False)


def test_a_missing_package_is_named_with_how_to_get_it(runs, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    code, _, err = called(watch, capsys, monkeypatch, runs / "map", "render=mp4", "steps=1")
    assert code == 2
    assert "pip install 'rlnet[video]'" in err
    monkeypatch.setitem(sys.modules, "pygame", None)
    code, _, err = called(watch, capsys, monkeypatch, runs / "pole", "render=gif", "steps=1")
    assert code == 2
    assert "pygame is not installed" in err
