"""Rollouts whose fields are made when they are looked at, and their minibatches."""

import numpy as np
import pytest
import torch

from rlnet.data.rollout import FIELDS, Rollout, minibatches


def numbered(steps, members, envs):
    """Rows whose every field tells time, member and environment."""
    code = torch.arange(steps * members * envs).view(steps, members, envs)
    fields = dict.fromkeys(FIELDS, code) | {"obs": torch.stack((code, -code), -1)}
    return Rollout(**fields, extra={"more": code + 1})


def test_a_field_is_made_once_and_only_when_it_is_looked_at():
    asked = []

    def make(name):
        asked.append(name)
        return torch.zeros(1)

    rollout = Rollout.lazily(make, torch.ones(1), {})
    assert asked == []
    assert rollout.obs is rollout.obs
    assert (asked, rollout.weight.item()) == (["obs"], 1.0)
    whole = rollout.replace(extra={"more": torch.ones(1)})
    assert (asked, whole.reward.item()) == (["obs", "reward"], 0.0)
    assert asked == ["obs", "reward"]
    assert whole.extra["more"].item() == 1.0
    with pytest.raises(AttributeError, match="observation"):
        _ = rollout.observation


@pytest.mark.parametrize("made", [torch.arange(3), np.arange(3)], ids=["tensor", "array"])
@pytest.mark.parametrize("array_first", [True, False])
def test_a_field_is_made_once_as_a_tensor_and_as_an_array(made, array_first):
    asked = []
    rollout = Rollout.lazily(lambda name: asked.append(name) or made, made * 2, {})
    for name, double in (("action", 1), ("weight", 2)):
        looks = [lambda name=name: rollout.array(name), lambda name=name: getattr(rollout, name)]
        for look in looks if array_first else looks[::-1]:
            assert look().tolist() == [0, double, 2 * double]
        assert isinstance(rollout.array(name), np.ndarray)
        assert getattr(rollout, name).data_ptr() == rollout.array(name).ctypes.data
    assert asked == ["action"]


def test_minibatches_are_the_rows_in_the_order_of_each_member():
    rollout = numbered(5, 3, 4)
    rollout = rollout.replace(weight=torch.rand(5, 3, 4))
    order = torch.stack([torch.randperm(20, generator=torch.Generator().manual_seed(m)) for m in range(3)])
    batches = list(minibatches(rollout, order, 3))
    assert [batch.reward.shape for batch in batches] == [(1, 3, 7), (1, 3, 7), (1, 3, 6)]
    for m in range(3):
        rows = [rollout.action[k // 4, m, k % 4].item() for k in order[m].tolist()]
        for name in FIELDS:
            seen = torch.cat([getattr(batch, name)[0, m] for batch in batches])
            if name == "weight":
                continue
            assert (seen[:, 0] if name == "obs" else seen).tolist() == rows, name
        assert torch.cat([batch.extra["more"][0, m] for batch in batches]).tolist() == [row + 1 for row in rows]
    first = torch.stack([rollout.weight[k // 4, 0, k % 4] for k in order[0, :7]])
    torch.testing.assert_close(batches[0].weight[0, 0], first / first.sum())
