"""The bench of mutations: its list fits the source, and what it reports is what happened."""

import numpy as np
import pytest

from rlnet.bench.mutation_list import MUTATIONS
from rlnet.bench.mutations import (
    Mutation,
    MutationError,
    Row,
    applied,
    check_texts,
    checks_fail,
    copied,
    markdown,
    summary,
    worse,
)


def test_every_mutation_fits_the_source():
    check_texts(MUTATIONS)
    assert len(MUTATIONS) >= 20
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


def test_a_text_that_is_not_there_is_named():
    stale = Mutation("stale", (("rlnet/algos/returns.py", "no such text", "x"),), (), ())
    with pytest.raises(MutationError, match=r"stale: .no such text. stands 0 times"):
        check_texts([*MUTATIONS, stale])
    twice = Mutation("twice", (("rlnet/algos/returns.py", "Tensor", "x"),), (), ())
    with pytest.raises(MutationError, match="twice"):
        check_texts([twice])


def test_the_returns_must_be_significantly_worse():
    rng = np.random.default_rng(0)
    healthy = rng.normal(1.0, 0.1, 16)
    assert worse(healthy, None)
    assert worse(healthy, np.full(16, np.nan))
    assert worse(healthy, healthy - 0.2)
    assert not worse(healthy, healthy + 0.2)
    assert not worse(healthy, rng.normal(1.0, 0.1, 16))
    assert worse(np.ones(16), np.zeros(16))
    assert not worse(np.ones(16), np.ones(16))


def test_the_table_counts():
    rows = [Row("a", True, True, "dqn", 1.0, 0.5), Row("b", False, None, "", None, None)]
    assert "| a | caught | shows it | dqn: 1 / 0.5 |" in markdown(rows)
    assert "| b | **missed** | cannot |  |" in markdown(rows)
    assert summary(rows) == "Of 2 bugs the exact checks catch 1, the return curve shows 1."


@pytest.mark.slow
def test_a_mutation_is_applied_seen_and_taken_back():
    mutation = next(one for one in MUTATIONS if one.name == "γ applied twice")
    with copied() as folder:
        with applied(mutation, folder):
            assert checks_fail(folder, mutation.checks)
        assert not checks_fail(folder, mutation.checks)
        with pytest.raises(MutationError, match="pytest ended with"):
            checks_fail(folder, ("tests/algos/test_returns.py", "-k", "no_such_test"))
