"""The bench of mutations: its list fits the source, and what it reports is what happened."""

import re
import subprocess
import sys

import numpy as np
import pytest
from support import ROOT

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
from rlnet.bench.self_play import wins_against_random
from rlnet.envs import make, preset


def test_every_mutation_fits_the_source():
    check_texts(MUTATIONS)
    assert len(MUTATIONS) >= 20
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.slow
def test_every_mutation_has_checks_among_the_tests():
    files = sorted({mutation.checks[0] for mutation in MUTATIONS})
    line = ["-m", "pytest", "--collect-only", "-q", "-n0", "-o", "addopts=--import-mode=importlib", *files]
    listed = subprocess.run([sys.executable, *line], cwd=ROOT, capture_output=True, text=True, timeout=300).stdout
    nothing = []
    for mutation in MUTATIONS:
        file, _, expression = mutation.checks
        names = [name for name in listed.splitlines() if name.startswith(f"{file}::")]
        if not any(selects(expression, name) for name in names):
            nothing.append(f"{mutation.name}: -k {expression!r} of {len(names)} tests in {file}")
    assert not nothing


def selects(expression: str, name: str) -> bool:
    """What `pytest -k` says of a test: words stand for whether its name holds them."""
    words = re.sub(
        r"\w+", lambda w: w[0] if w[0] in ("and", "or", "not") else str(w[0].lower() in name.lower()), expression
    )
    return eval(words)


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
    assert summary(rows) == "Of 2 bugs the exact checks catch 1, the return curve or win rate shows 1."


def test_a_bug_of_a_game_stands_beside_wins_with_wilsons_interval_and_exploitability():
    """Of 100 games 50: .4038 to .5962 (Wilson 1927, z = 1.96)."""
    seen = Row("a", True, False, "dqn", 0.5, 0.5, True, (0.0, 2.0), 100)
    fails = Row("b", True, True, "dqn", 0.5, float("nan"), True, (0.0, float("nan")), 100)
    half = "50.0 % [40.4, 59.6]"
    assert f"| a | caught | does not | dqn: wins {half} / {half}; NashConv 0 / 2 |" in markdown([seen])
    assert f"| b | caught | shows it | dqn: wins {half} / fails; NashConv 0 / – |" in markdown([fails])
    both = "Of the 2 in games NashConv shows 2, the win rate against a random player 1."
    assert summary([seen, fails]).endswith(both)


def test_wins_against_a_random_player_are_those_of_the_game():
    """Nim with two matches: who takes both wins, and a random first player does so half of the time."""
    game = make(preset("game", rules=f"{__name__}:two_matches")).mdp
    take = [list(game.action_labels).index(str(number)) for number in (1, 2)]
    policies = np.zeros((2, game.n_states, 2))
    policies[0, 0, take[0]] = policies[1, 0, take[1]] = 1.0
    policies[:, 1, take[0]] = 1.0
    wins = wins_against_random(game, policies, 4000)
    assert wins == pytest.approx([0.25, 0.75], abs=0.03)


def two_matches(state=2):
    return {take: (state - take, float(state == take), state == take) for take in (1, 2) if take <= state}


@pytest.mark.slow
def test_a_mutation_is_applied_seen_and_taken_back():
    mutation = next(one for one in MUTATIONS if one.name == "γ applied twice")
    with copied() as folder:
        with applied(mutation, folder):
            assert checks_fail(folder, mutation.checks)
        assert not checks_fail(folder, mutation.checks)
        with pytest.raises(MutationError, match="pytest ended with"):
            checks_fail(folder, ("tests/algos/test_returns.py", "-k", "no_such_test"))
