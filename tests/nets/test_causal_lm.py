"""Decoders as networks: prefixes share passes, and outputs are those of each text alone."""

import numpy as np
import pytest
import torch

from rlnet.config import CausalLMConfig
from rlnet.nets.causal_lm import TokenInputs, causal_lm, longest
from rlnet.numerics.random_streams import Streams

pytest.importorskip("transformers")


def random_rows(generator: np.random.Generator, count: int, width: int, kinds: int) -> np.ndarray:
    rows = generator.integers(kinds, size=(count, width))
    lengths = generator.integers(1, width + 1, size=count)
    rows[np.arange(width) >= lengths[:, None]] = -1
    return rows


@pytest.mark.parametrize("seed", range(20))
def test_every_text_is_the_beginning_of_the_one_that_covers_it_and_no_kept_text_is_of_another(seed):
    rows = random_rows(np.random.default_rng(seed), 60, 5, 2)
    kept, cover = longest(rows)
    for row, text in zip(rows, rows[kept[cover]], strict=True):
        size = (row >= 0).sum()
        assert (text[:size] == row[:size]).all()
    for k, one in enumerate(rows[kept]):
        size = (one >= 0).sum()
        others = np.delete(rows[kept], k, axis=0)
        assert not (others[:, :size] == one[:size]).all(1).any()


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_outputs_are_those_of_each_text_alone_for_every_member(architecture):
    """Against the library's own module, member by member and text by text."""
    rows = torch.from_numpy(random_rows(np.random.default_rng(0), 12, 5, 4))
    inputs = TokenInputs(5, 4, rows)
    config = CausalLMConfig(name="causal_lm", architecture=architecture, hidden_size=16, heads=2, intermediate_size=24)
    network = causal_lm(torch.tensor([0.5, 0.0, -1.0]), config, inputs)
    params = network.init(Streams([4, 9], "network"))
    assert not torch.equal(params["weight"][0], params["weight"][1])
    obs = torch.randint(12, (3, 2, 7), generator=torch.Generator().manual_seed(0))
    found = network.apply(params, obs)
    assert found.shape == (3, 2, 7, 3)
    from rlnet.nets.causal_lm import _decoder

    body = _decoder(config, inputs)
    for m in range(2):
        body.load_state_dict({k[5:]: v[m] for k, v in params.items() if k.startswith("body.")})
        for t in range(3):
            for n in range(7):
                row = rows[obs[t, m, n]]
                with torch.no_grad():
                    seen = body(row[row >= 0][None]).last_hidden_state[0, -1]
                expected = seen @ params["weight"][m] + params["bias"][m]
                torch.testing.assert_close(found[t, m, n], expected, atol=1e-5, rtol=1e-4)


def test_rows_of_tokens_are_read_as_states_are():
    rows = torch.from_numpy(random_rows(np.random.default_rng(2), 9, 4, 3))
    config = CausalLMConfig(name="causal_lm", hidden_size=8, heads=2, layers=1, intermediate_size=8)
    by_state, by_row = (causal_lm(torch.zeros(2), config, TokenInputs(4, 3, table)) for table in (rows, None))
    params = by_state.init(Streams([1], "network"))
    obs = torch.arange(9).view(1, 9)
    torch.testing.assert_close(by_state.apply(params, obs), by_row.apply(params, rows.view(1, 9, 4).float()))


def grown(generator: np.random.Generator, rows: np.ndarray, again: np.ndarray, kinds: int) -> np.ndarray:
    """Rows [M, N, W] with a token more; those that are full, or to begin again, are of one token, the first."""
    rows = rows.copy()
    for place in np.ndindex(rows.shape[:2]):
        size = int((rows[place] >= 0).sum())
        if again[place] or size == rows.shape[-1]:
            rows[place], again[place] = [0] + [-1] * (rows.shape[-1] - 1), True
        else:
            rows[place][size] = generator.integers(kinds)
    return rows


@pytest.mark.parametrize("members", [1, 2, 5])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_reading_token_by_token_gives_the_outputs_of_whole_texts(architecture, members):
    """Texts of different lengths that go on or end; and again from single tokens, at other parameters."""
    generator = np.random.default_rng(members)
    config = CausalLMConfig(name="causal_lm", architecture=architecture, hidden_size=16, heads=2, intermediate_size=24)
    network = causal_lm(torch.tensor([0.5, 0.0, -1.0]), config, TokenInputs(9, 5))
    assert network.growing is not None
    apply = network.growing()
    for seed, longest_first in ((0, 5), (1, 1)):
        first = network.init(Streams(range(members), "network"))
        noise = torch.Generator().manual_seed(seed)
        params = {name: x + 0.3 * torch.randn(x.shape, generator=noise) for name, x in first.items()}
        rows = np.stack([random_rows(generator, 30, longest_first, 5) for _ in range(members)])
        rows = np.pad(rows, ((0, 0), (0, 0), (0, 9 - longest_first)), constant_values=-1)
        alive = np.ones((members, 30), bool)
        for _ in range(6):
            obs = torch.from_numpy(rows).float()
            found, expected = apply(params, obs), network.apply(params, obs)
            torch.testing.assert_close(found[alive], expected[alive], atol=1e-5, rtol=1e-5)
            assert found.isfinite().all()
            again = (generator.random(alive.shape) < 0.15) | ~alive
            rows = grown(generator, rows, again, 5)
            alive &= ~again
        assert alive.any()
        assert not alive.all()
