"""`rlnet export`: in onnxruntime and in torch alone, the files act as the policy does."""

import json
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from support import quick

import rlnet
from rlnet.commands import export as command
from rlnet.config import RunFailed
from rlnet.learning import exporting
from rlnet.learning.export_inputs import parts_of

pytestmark = pytest.mark.usefixtures("without_pictures")

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

WALK = ("env=random_walk", "algo.envs=2", "log_every=1000")
NORMAL = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
RUNS = {  # settings, steps, observations
    "table": ((*WALK, "algo=q_learning", "network=tabular"), 600, np.arange(19)),
    "linear": ((*WALK, "algo=td0", "network=linear"), 600, np.arange(19)),
    "one-hot perceptron": ((*WALK, "algo=qr_dqn", "algo.learning_starts=64"), 200, np.arange(19)),
    "dueling": (("env=cartpole", "algo=dqn", "network.dueling=true", "algo.learning_starts=64"), 200, NORMAL),
    "policy": (("env=cartpole", "algo=ppo", "algo.rollout=32"), 300, NORMAL),
    "module": (
        ("env=cartpole", "algo=ppo", "algo.rollout=32", "network=module", "network.target=torch.nn.Tanh"),
        300,
        NORMAL,
    ),
    "real actions": (("env=pendulum", "algo=sac", "gamma=0.9", "algo.learning_starts=64"), 80, NORMAL[:, :3]),
    "fewer actions in some states": (("env=windy", "network=tabular", "algo=q_learning"), 300, np.arange(70)),
}


def called(capsys, monkeypatch, *arguments) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["rlnet export", *map(str, arguments)])
    code = command.main()
    return code, *capsys.readouterr()


@pytest.mark.parametrize("kind", quick(RUNS, ["policy"]))
def test_exported_files_act_as_the_policy(kind, tmp_path, capsys, monkeypatch):
    overrides, steps, seen = RUNS[kind]
    rlnet.train(*overrides, "evaluation.every=0", steps=steps, seeds=2, folder=tmp_path / "run")
    code, out, err = called(capsys, monkeypatch, tmp_path / "run", "member=1", "trust=true")
    assert (code, err) == (0, "")
    assert "onnx: the same actions in 1,000 observations" in out
    policy, folder = rlnet.load(tmp_path / "run", 1, trust=True), tmp_path / "run" / "export"
    about = json.loads((folder / "policy.json").read_text())
    wanted = {"action": policy(seen), "value": policy.value(seen)}
    if "q" in about["outputs"]:
        wanted["q"] = policy.q(seen)
    assert list(about["outputs"]) == list(wanted)
    session = onnxruntime.InferenceSession(folder / "policy.onnx", providers=["CPUExecutionProvider"])
    program = torch.export.load(folder / "policy.pt2").module()
    for found in (session.run(None, {"obs": seen}), [x.detach().numpy() for x in program(torch.from_numpy(seen))]):
        for (name, own), theirs in zip(wanted.items(), found, strict=True):
            if own.dtype.kind == "i":
                np.testing.assert_array_equal(own, theirs, err_msg=name)
            else:
                np.testing.assert_allclose(own, theirs, rtol=1e-4, atol=1e-4, err_msg=name)
    alone = session.run(["action"], {"obs": seen[3:4]})[0]
    np.testing.assert_allclose(alone, wanted["action"][3:4], rtol=1e-4, atol=1e-4)


class Rover(gymnasium.Env):
    """Shows a picture and more; where it looks brightest is where one should go."""

    observation_space = spaces.Dict(
        camera=spaces.Box(0, 255, (8, 9, 3), np.uint8),
        place=spaces.Tuple([spaces.Discrete(3, start=1), spaces.Box(-1, 1, (2,), np.float32)]),
        lamps=spaces.MultiBinary(2),
    )
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.age = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.age += 1
        return self.observation_space.sample(), float(action), self.age > 5, False, {}


def rover(network, folder):
    gymnasium.registry["Rover-v0"] = gymnasium.envs.registration.EnvSpec("Rover-v0", Rover)
    own = ("env=gymnasium", "env.id=Rover-v0", f"network={network}", "network.normalize_observations=true")
    rlnet.train(*own, "algo=dqn", "algo.learning_starts=16", "evaluation.every=0", steps=64, folder=folder)
    return rlnet.load(folder, trust=True)


@pytest.mark.parametrize("network", ["cnn", "mlp"])
def test_parts_are_seen_as_the_rows_that_they_are_of(network, tmp_path):
    policy = rover(network, tmp_path / "run")
    module = exporting.Exported(policy.trained)
    encoder = policy.trained.problem.environment.encoder
    rows = np.stack([encoder.row(Rover.observation_space.sample(), "step") for _ in range(9)])
    parts = parts_of(encoder.layout, rows)
    assert list(parts) == ["camera", "place_0", "place_1", "lamps"]
    assert parts["camera"].dtype == np.uint8
    assert parts["camera"].shape == (9, 8, 9, 3)
    by_parts = module({name: torch.from_numpy(x) for name, x in parts.items()})
    for found, wanted in zip(by_parts, module(torch.from_numpy(rows)), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["cnn", "mlp"])
def test_images_beside_other_parts_are_inputs_of_their_own(network, tmp_path, capsys, monkeypatch):
    rover(network, tmp_path / "run")
    code, out, err = called(capsys, monkeypatch, tmp_path / "run", "trust=true")
    assert (code, err) == (0, "")
    assert "onnx: the same actions in 1,000 observations" in out
    policy, space = rlnet.load(tmp_path / "run", trust=True), Rover.observation_space
    seen = [space.sample() for _ in range(20)]
    inputs = {
        "camera": np.stack([x["camera"] for x in seen]),
        "place_0": np.eye(3, dtype=np.float32)[[x["place"][0] - 1 for x in seen]],
        "place_1": np.stack([x["place"][1] for x in seen]),
        "lamps": np.stack([x["lamps"] for x in seen]).astype(np.float32),
    }
    folder = tmp_path / "run" / "export"
    about = json.loads((folder / "policy.json").read_text())
    assert about["inputs"]["camera"] == {"type": "uint8", "shape": ["batch", 8, 9, 3]}
    assert set(about["inputs"]) == set(inputs)
    session = onnxruntime.InferenceSession(folder / "policy.onnx", providers=["CPUExecutionProvider"])
    action, value, q = session.run(["action", "value", "q"], inputs)
    np.testing.assert_array_equal(action, [policy(x) for x in seen])
    np.testing.assert_allclose(q, [policy.q(x) for x in seen], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(value, [policy.value(x) for x in seen], rtol=1e-4, atol=1e-4)
    program = torch.export.load(folder / "policy.pt2").module()
    tensors = {name: torch.from_numpy(inputs[name]) for name in about["inputs"]}
    np.testing.assert_array_equal(program(tensors)[0].numpy(), action)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    rlnet.train(*WALK, "algo=q_learning", "network=tabular", steps=600, folder=folder)
    return folder


@pytest.mark.slow
def test_an_export_that_acts_otherwise_is_not_written(trained, tmp_path, monkeypatch):
    was = exporting.Exported.forward

    def other(self, obs, mask=None):
        action, *rest = was(self, obs, mask)
        return (1 - action, *rest)

    monkeypatch.setattr(exporting.Exported, "forward", other)
    with pytest.raises(
        RunFailed, match="format=torch: the exported policy acts otherwise in 1000 of 1000 observations"
    ):
        exporting.export(rlnet.load(trained).trained, tmp_path / "out", ("torch",))
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["format=tflite"], "format=tflite: allowed are both, torch, onnx"),
        (["member=1"], "member=1: must be in 0..0"),
        (["out=nowhere/deep"], "out=nowhere/deep: there is no folder nowhere"),
        (["quick=1"], "quick=1: must be KEY=VALUE"),
    ],
)
def test_what_cannot_be_exported_ends_in_a_sentence(trained, settings, said, capsys, monkeypatch):
    code, _, err = called(capsys, monkeypatch, trained, *settings)
    assert code == 2
    assert said in err
    assert not (trained / "export").exists()


def test_a_missing_package_is_named_with_how_to_get_it(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, _, err = called(capsys, monkeypatch, trained)
    assert code == 2
    assert "format=onnx: onnxruntime is not installed; pip install 'rlnet[onnx]', or use format=torch" in err
    code, out, _ = called(capsys, monkeypatch, trained, "format=torch", f"out={tmp_path / 'out'}")
    assert code == 0
    assert not (tmp_path / "out" / "policy.onnx").exists()
    assert "torch: the same actions in 1,000 observations" in out
