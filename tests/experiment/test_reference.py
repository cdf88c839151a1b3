"""The reference policy in the folder of a run: read back as it was, and pretrained again where it cannot be."""

import logging

import numpy as np
import pytest
import torch
from support import composed, quick_rows

from rlnet.config import ConfigError
from rlnet.experiment import reference
from rlnet.experiment.checkpoints import write_sealed
from rlnet.experiment.comparison_files import rescore
from rlnet.experiment.problem import build
from rlnet.learning.training_loop import train

pytestmark = pytest.mark.usefixtures("without_pictures")

OPTIONS = ("env=tokens_nano", "algo=rloo", "network=tabular", "env.reference_steps=20", "algo.envs=16", "seeds=2")


@pytest.fixture
def folder(tmp_path):
    train(composed(*OPTIONS, "steps=200"), tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def pretrained(monkeypatch):
    """The number of times that a reference policy was pretrained."""
    calls, own = [], reference._fitted
    monkeypatch.setattr(reference, "_known", {})
    monkeypatch.setattr(reference, "_fitted", lambda *args, **kwargs: calls.append(1) or own(*args, **kwargs))
    return calls


def test_it_is_read_by_whoever_goes_on_or_scores_again(folder, pretrained, tmp_path):
    kept = torch.load(folder / reference.FILE, weights_only=True)
    config = composed(*OPTIONS, "steps=400", f"resume={folder}")
    assert rescore(folder).difference == 0
    train(config, tmp_path / "another")
    train(config, folder)
    assert pretrained == []
    for place in (folder, tmp_path / "another"):
        again = torch.load(place / reference.FILE, weights_only=True)
        assert again["settings"] == kept["settings"]
        assert all(torch.equal(again["params"][name], x) for name, x in kept["params"].items())


def test_what_is_read_is_what_counts(folder):
    problem = build(composed(*OPTIONS), folder=folder)
    moved = {name: x + torch.arange(x.numel()).view(x.shape) for name, x in problem.context.reference.items()}
    reference.write_reference(folder, composed(*OPTIONS), moved)
    read = build(composed(*OPTIONS, "steps=5"), folder=folder)
    assert all(torch.equal(read.context.reference[name], x) for name, x in moved.items())
    table = moved["table"][0].double() if "table" in moved else next(iter(moved.values()))[0].double()
    np.testing.assert_allclose(read.log_reference, table.log_softmax(-1), atol=1e-12)


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other(path):
    reference.write_reference(path.parent, composed(*OPTIONS, "env.skill=0.9"), {})


def other_shape(path):
    stored = torch.load(path, weights_only=True)
    write_sealed(path, {**stored, "params": {name: x[:, :3] for name, x in stored["params"].items()}})


def no_number(path):
    stored = torch.load(path, weights_only=True)
    write_sealed(path, {**stored, "params": {name: x / 0 for name, x in stored["params"].items()}})


@pytest.mark.parametrize(
    ("spoil", "why"),
    quick_rows(
        [
            (lambda path: path.unlink(), "is missing"),
            (damage, "it is damaged, its checksum differs"),
            (other, "is the reference policy of other settings"),
            (other_shape, "does not fit this run: params"),
            (no_number, "holds numbers that are not finite"),
        ],
        3,
    ),
)
def test_one_that_cannot_be_used_is_named_and_pretrained_again(folder, pretrained, caplog, spoil, why):
    sound = torch.load(folder / reference.FILE, weights_only=True)["params"]
    spoil(folder / reference.FILE)
    with caplog.at_level(logging.WARNING):
        train(composed(*OPTIONS, "steps=400", f"resume={folder}"), folder)
    said = [record.message for record in caplog.records if reference.FILE in record.message]
    assert len(said) == 1
    assert why in said[0]
    assert said[0].endswith("the reference policy is pretrained again")
    assert pretrained == [1]
    again = torch.load(folder / reference.FILE, weights_only=True)["params"]
    assert all(torch.equal(again[name], x) for name, x in sound.items())


def test_a_link_is_not_followed(folder, tmp_path):
    (folder / reference.FILE).rename(tmp_path / "elsewhere.pt")
    (folder / reference.FILE).symlink_to(tmp_path / "elsewhere.pt")
    with pytest.raises(ConfigError, match=r"reference\.pt: .*link"):
        rescore(folder)
