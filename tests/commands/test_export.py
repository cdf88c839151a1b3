"""`rlnet export`: in onnxruntime and in torch alone, the files act as the policy does."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support import quick

import rlnet
from rlnet.commands import export as command
from rlnet.config import RunFailed
from rlnet.learning import exporting

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


@pytest.mark.parametrize("kind", quick(RUNS, ["table", "policy"]))
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    rlnet.train(*WALK, "algo=q_learning", "network=tabular", steps=600, folder=folder)
    return folder


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
