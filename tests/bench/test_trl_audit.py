"""TRL's trainers beside exact gradients: what their documentation says they climb, they climb."""

import pytest

from rlnet.bench import trl_audit, trl_steps
from rlnet.bench.trl_audit import DPO, RLOO, Models, audited, gradients_of
from rlnet.diagnosis.estimator_audit import PREFERENCES, REGULARISED


def slow(test):
    """Of TRL, whose warnings are its own."""
    return pytest.mark.slow(pytest.mark.filterwarnings("ignore")(test))


@pytest.fixture(scope="module")
def models() -> Models:
    pytest.importorskip("trl")
    return Models()


def test_without_trl_a_sentence_says_so(monkeypatch, capsys):
    monkeypatch.setattr(trl_steps, "find_spec", lambda name: None)
    trl_steps.run(1, "")
    assert capsys.readouterr().out == "TRL is not installed, so nothing is compared: pip install -e '.[trl]'\n"


@slow
def test_steps_of_both_programs_are_timed(monkeypatch, capsys):
    pytest.importorskip("trl")
    monkeypatch.setattr(trl_steps, "WARM", 1)
    monkeypatch.setattr(trl_steps, "STEPS", 1)
    trl_steps.run(1, "steps")
    said = capsys.readouterr().out
    assert "A GRPO step of 128 completions" in said
    assert "| rlnet |" in said
    assert "TRL takes" in said


@slow
def test_dpo_of_trl_is_the_gradient_of_the_divergence_of_preferences_and_rlnets_step(models):
    row = audited(models, gradients_of(models), "DPO", "DPO", DPO["DPO"])
    assert row.nearest == PREFERENCES
    assert row.matches[PREFERENCES].cosine == pytest.approx(1, abs=1e-6)
    assert row.matches[PREFERENCES].scale == pytest.approx(1, abs=1e-5)
    assert row.own.cosine == pytest.approx(1, abs=1e-6)
    assert row.own.scale == pytest.approx(1, abs=1e-5)
    assert row.matches[REGULARISED].cosine < 0.999


@slow
def test_pairs_that_are_preferred_the_other_way_are_seen(models):
    """The sign of the margin, planted: the update turns."""
    row = audited(models, gradients_of(models), "DPO", "DPO", ({"loss_type": ["robust"], "label_smoothing": 0.9}, {}))
    assert row.own.cosine < 0.9


@slow
def test_rloo_of_trl_is_exact_for_groups_of_two(models, monkeypatch):
    monkeypatch.setattr(trl_audit, "GROUP", 2)
    gradients = gradients_of(models)
    exact = audited(models, gradients, "RLOO", "RLOO", RLOO["RLOO"])
    assert exact.matches[REGULARISED].cosine == pytest.approx(1, abs=1e-6)
    assert exact.matches[REGULARISED].scale == pytest.approx(1, abs=1e-5)
