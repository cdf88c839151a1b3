"""HTML representations for notebooks: what they say, that names stay text, and that nothing is solved for them."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from rlnet.compare import score
from rlnet.mdp import FiniteMDP, evaluate, solve
from rlnet.mdp.model import finite_mdp
from rlnet.mdp.notebook import html_table

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a & b", "</table>")


class Tags(HTMLParser):
    """The names of all tags, whether they close in order, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.open, self.words = set(), [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert attrs == []
        self.tags.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def chain(n: int, **names) -> FiniteMDP:
    """s → s + 1 by action 0 for reward 1, an end by action 1 for reward 0; the last state is terminal."""
    rows = {s: {0: [(1.0, s + 1, 1.0, s + 1 == n - 1)], 1: [(1.0, n - 1, 0.0, True)]} for s in range(n - 1)}
    mdp = FiniteMDP.from_outcomes(rows, n_states=n, start=np.eye(n)[0])
    return finite_mdp.replace(mdp, **names)


def test_a_model_says_its_sizes_names_rewards_and_start():
    mdp = chain(4, labels=("a", "b", "c", "end"), action_labels=("go", "stop"))
    parsed = Tags(mdp._repr_html_())
    said = " ".join(parsed.words)
    assert parsed.tags == {"table", "caption", "tr", "th", "td"}
    assert "4, 1 of them terminal" in said
    assert "2 (go, stop)" in said
    assert "0 to 1" in said
    assert "a: 1" in said


def test_nothing_is_solved_or_expanded_for_the_table_of_a_model(monkeypatch):
    def never(*arguments, **options):
        raise AssertionError("a representation must not solve")

    mdp = chain(5)
    monkeypatch.setattr("rlnet.mdp.solving.solve", never)
    monkeypatch.setattr("rlnet.mdp.solving._answer", never)
    before = set(vars(mdp))
    mdp._repr_html_()
    # Nothing with a size of pairs or of S × A is made and kept: `terminal`, bool [S], alone.
    assert set(vars(mdp)) - before <= {"terminal"}


def test_a_solution_says_its_bound_values_and_actions():
    # Going on from state 0 pays 1 + .5 + .25.
    said = " ".join(Tags(solve(chain(4), 0.5)._repr_html_()).words)
    assert "max |v − exact| ≤" in said
    assert "0 to 1.75" in said
    assert re.search(r"\b0 1\.75 0\b", said)
    assert re.search(r"\b3 0 none\b", said)


@pytest.mark.parametrize("horizon", [0, 1, 2])
def test_a_solution_with_a_horizon_shows_the_values_with_all_steps_ahead(horizon):
    said = " ".join(Tags(solve(chain(4), 1.0, horizon=horizon)._repr_html_()).words)
    assert f"horizon {horizon} steps" in said
    assert re.search(rf"\b0 {horizon} {'0' if horizon else 'none'}\b", said)


def test_a_mixed_policy_is_listed_with_its_probabilities():
    said = " ".join(Tags(evaluate(chain(3), np.full((3, 2), 0.5), 0.9)._repr_html_()).words)
    assert "0 (0.5), 1 (0.5)" in said


def test_many_states_and_actions_are_cut_short():
    n = 50
    rows = {s: {a: [(1.0, (s + a) % n, 0.0, False)] for a in range(30)} for s in range(n)}
    mdp = FiniteMDP.from_outcomes(rows)
    model, solution = mdp._repr_html_(), solve(mdp, 0.9)._repr_html_()
    assert "… (30 in all)" in model
    assert "… (50 in all)" in model
    assert "40 more states" in solution
    assert len(model) + len(solution) < 4_000


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text(name):
    mdp = chain(3, labels=(name, name, name), action_labels=(name, name))
    for shown in (mdp._repr_html_(), html_table(name, [(name, name)], (name, name))):
        parsed = Tags(shown)
        assert parsed.tags <= {"table", "caption", "tr", "th", "td"}
        assert name in "".join(parsed.words)


def test_scores_are_a_table_with_their_meanings():
    mdp = chain(4)
    found = score(mdp, q=solve(mdp, 0.9).q, gamma=0.9)
    parsed = Tags(found._repr_html_())
    assert {"table", "p"} <= parsed.tags
    assert found.verdict in "".join(parsed.words)
