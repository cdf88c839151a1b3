"""Masses that rows are drawn by: exactly in proportion, never a row without any, each member for itself."""

import numpy as np
import pytest
import torch

from rlnet.data.prioritized_sampling import Priorities


def changed(masses, library, batch=16, seed=0):
    """Priorities that have come to `masses` [M, R] through others; half of the rows are set again, in parts."""
    rng, (members, rows) = np.random.default_rng(seed), masses.shape
    half = rng.permuted(np.tile(np.arange(rows), (members, 1)), axis=1)[:, : rows // 2]
    first = masses.copy()
    np.put_along_axis(first, half, rng.integers(9, size=half.shape), 1)
    made = (lambda x: x) if library is np else torch.from_numpy
    priorities = Priorities(made(first), batch, library)
    for row in np.array_split(half, 5, axis=1):
        row = np.concatenate((row, row[:, :1]), 1)  # a row may stand there twice
        priorities.set(made(row), made(np.take_along_axis(masses, row, 1)))
    return priorities


@pytest.mark.parametrize("library", [np, torch], ids=lambda library: library.__name__)
@pytest.mark.parametrize("rows", [1, 7, 30, 1000])
def test_rows_are_drawn_exactly_in_proportion(rows, library):
    """Of S equally spaced uniform numbers, with masses that are whole and sum to S, each row gets its own mass."""
    masses = np.random.default_rng(rows).integers(5, size=(2, rows)).astype(float)
    masses[0, 0] += 8 * rows - masses[0].sum()
    masses[1, -1] += 8 * rows - masses[1].sum()
    uniform = np.tile((np.arange(8 * rows) + 0.5) / (8 * rows), (2, 1))
    priorities = changed(masses, library)
    drawn = priorities.draw(uniform if library is np else torch.from_numpy(uniform))
    for m in range(2):
        assert np.bincount(np.asarray(drawn[m]), minlength=rows).tolist() == masses[m].tolist()
    assert np.asarray(priorities.least()).tolist() == [[row[row > 0].min()] for row in masses]


@pytest.mark.parametrize("seed", range(20))
def test_no_row_of_mass_0_is_drawn_whatever_is_rounded(seed):
    """Masses over 24 orders of magnitude, uniform numbers at the very edges between rows.

    The sums of blocks are off by what another order of adding could make of them.
    """
    rng = np.random.default_rng(seed)
    masses = np.where(rng.random((3, 500)) < 0.3, 10.0 ** rng.uniform(-12, 12, (3, 500)), 0.0)
    upto = masses.cumsum(1)
    edges = np.minimum(upto / upto[:, -1:], 1 - 1e-12)
    uniform = np.concatenate((np.nextafter(edges, 0), edges, np.nextafter(edges, 1), 0 * edges), 1)
    priorities = changed(masses, np, seed=seed)
    priorities._sums *= 1 + 1e-15 * rng.uniform(-1, 1, priorities._sums.shape)
    drawn = priorities.draw(uniform.clip(0, 1 - 1e-12))
    assert drawn.max() < 500
    assert (np.take_along_axis(masses, drawn, 1) > 0).all()


def test_a_member_draws_what_it_draws_alone_and_as_tensors_do():
    rng = np.random.default_rng(0)
    masses, uniform = rng.random((5, 3000)), rng.random((5, 64))
    many = changed(masses, np).draw(uniform)
    assert len(np.unique(many)) > 200
    for m in range(5):
        alone = Priorities(masses[m : m + 1], 16, np)
        np.testing.assert_array_equal(alone.draw(uniform[m : m + 1])[0], many[m])
    tensors = changed(masses, torch).draw(torch.from_numpy(uniform))
    np.testing.assert_array_equal(tensors.numpy(), many)
