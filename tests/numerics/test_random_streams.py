"""Streams: one for each member and purpose, and exactly restored."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from rlnet.numerics.random_streams import BlockUniform, Streams, derive_seed


def test_a_stream_depends_on_seed_and_purpose_alone():
    numbers = {
        (seed, purpose): Streams([seed], purpose).uniform(4)
        for seed in (0, 1)
        for purpose in ("network", "environment", "behaviour", "replay", "reset")
    }
    keys = list(numbers)
    for i, a in enumerate(keys):
        for b in keys[i + 1 :]:
            assert not torch.equal(numbers[a], numbers[b]), (a, b)
    assert torch.equal(Streams([5, 1, 0], "network").uniform(4)[1:2], numbers[1, "network"])


def test_numbers_are_those_of_numpy():
    own = np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence([7, 2])))  # "behaviour" is the third purpose
    drawn = Streams([3, 7], "behaviour").uniform(5, 3)[1]
    np.testing.assert_array_equal(drawn.numpy(), own.random((5, 3)))


@pytest.mark.parametrize("drawn", [0, 1, 2**40])
def test_a_state_is_a_seed_and_a_place_in_its_sequence(drawn):
    streams = Streams([5, 6], "noise")
    assert streams.state_dict()["drawn"] == 0
    streams.load_state_dict({"seeds": torch.tensor([3, 7]), "drawn": drawn})
    own = np.random.PCG64DXSM(np.random.SeedSequence([7, 6])).advance(drawn)
    np.testing.assert_array_equal(streams.uniform(4)[1].numpy(), np.random.Generator(own).random(4))
    assert streams.state_dict()["drawn"] == drawn + 4


def test_members_are_not_correlated():
    numbers = Streams(range(200), "behaviour").uniform(400).numpy()
    least = np.corrcoef(numbers)[np.triu_indices(200, 1)]
    assert abs(least).max() < 6 / 20  # 19,900 pairs of standard error 1/20: beyond 6 of them with p < 1e-4
    assert kstest(numbers[:, 0], "uniform").pvalue > 1e-3  # the first number of each


def test_numbers_are_uniform_and_below_one():
    numbers = Streams([3], "environment").uniform(100_000).flatten()
    assert kstest(numbers.numpy(), "uniform").pvalue > 1e-3
    assert 0 <= numbers.min() < numbers.max() < 1
    counts = Streams([3], "environment").integers(5, 1000).unique()
    assert counts.tolist() == [0, 1, 2, 3, 4]


def test_a_block_is_the_same_sequence_whatever_its_size():
    blocks = BlockUniform(Streams([1, 2], "environment"), (3,), block=4)
    numbers = torch.stack([blocks.next() for _ in range(9)])
    once = BlockUniform(Streams([1, 2], "environment"), (3,), block=12)
    torch.testing.assert_close(numbers, torch.stack([once.next() for _ in range(9)]), rtol=0, atol=0)


@pytest.mark.parametrize("taken", [0, 3, 4, 6])
def test_a_restored_sequence_goes_on(taken):
    blocks = BlockUniform(Streams([1, 2], "environment"), (3,), block=4)
    for _ in range(taken):
        blocks.next()
    state = blocks.state_dict()
    state = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in state.items()}
    wanted = [blocks.next().clone() for _ in range(6)]
    other = BlockUniform(Streams([8, 9], "environment"), (3,), block=4)
    other.next()
    other.load_state_dict(state)
    for expected in wanted:
        assert torch.equal(other.next(), expected)


def test_reseeding_forgets_the_rest_of_the_block():
    blocks = BlockUniform(Streams([1], "environment"), (3,), block=4)
    first = blocks.next().clone()
    blocks.reseed([1])
    assert torch.equal(blocks.next(), first)


def test_wrong_purposes_and_seeds_are_refused():
    with pytest.raises(ValueError, match="purpose='dreams': allowed are network"):
        derive_seed(0, "dreams")
    with pytest.raises(ValueError, match="seed=-1: must be a non-negative integer"):
        derive_seed(-1, "network")
