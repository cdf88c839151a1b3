"""Streams: one for each member and purpose, and exactly restored."""

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
