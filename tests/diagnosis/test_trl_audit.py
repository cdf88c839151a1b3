"""TRL's trainers beside exact gradients: what their documentation says they climb, they climb."""

import json
import re
import sys

import pytest
from support import quick_rows

from rlnet.bench import trl_steps
from rlnet.commands import audit as command
from rlnet.config import optional
from rlnet.diagnosis.estimator_audit import PREFERENCES, REGULARISED
from rlnet.diagnosis.objectives import Match
from rlnet.diagnosis.trl_audit import TABLE, Row, TrainerAudit, Variant, audited, gradients_of
from rlnet.diagnosis.trl_page import verdict, write_trainers
from rlnet.diagnosis.trl_trainers import Models


def slow(test):
    """Of TRL, whose warnings are its own."""
    return pytest.mark.slow(pytest.mark.filterwarnings("ignore")(test))


def called(monkeypatch, capsys, folder, *arguments: str) -> tuple[int, str]:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["rlnet audit", *arguments, f"hydra.run.dir={folder}/out"])
    return command.main(), capsys.readouterr().err


@pytest.fixture(scope="module")
def models() -> Models:
    pytest.importorskip("trl")
    return Models()


def test_without_trl_a_sentence_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(trl_steps, "find_spec", lambda name: None)
    trl_steps.run(1)
    assert capsys.readouterr().out == "TRL is not installed, so nothing is compared: pip install -e '.[trl]'\n"

    def missing(name):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(optional, "import_module", missing)
    said = "error: trl=all needs trl, which is not installed: pip install 'rlnet[trl]'\n"
    assert called(monkeypatch, capsys, tmp_path, "trl=all") == (2, said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    quick_rows(
        [
            ("trl=PPOTrainer", "trl=PPOTrainer: allowed are all, GRPOTrainer, RLOOTrainer, DPOTrainer"),
            ("trl=all group=1", "group=1: must be from 2 to 100"),
            ("trl=all group=2.5", "group=2.5: "),
            ("trl=all length=0", "length=0: must be from 1 to 8"),
            ("trl=all beta=-1", "beta=-1.0: must be at least 0"),
            ("trl=all beta=nan", "beta=nan: must be at least 0"),
            ("trl=all group=9", "group=9 length=2: would be 10,010 groups of 7 completions; at most 10,000"),
            ("trl=all options.loss_type=grpo", "options={'loss_type': 'grpo'}: are those of one trainer"),
            ("trl=GRPOTrainer options.beta=.1", "options.beta=0.1: is a setting of the audit: beta=..."),
            ("trl=GRPOTrainer options.temperature=2", "options.temperature=2: allowed are loss_type, "),
            ("trl=RLOOTrainer options.loss_type=grpo", "options.loss_type=grpo: allowed are normalize_advantages, "),
            ("trl=DPOTrainer beta=0", "beta=0.0: must be above 0 with DPOTrainer"),
        ],
        6,
    ),
)
def test_what_cannot_be_audited_is_refused_in_one_sentence(arguments, said, monkeypatch, capsys, tmp_path):
    code, err = called(monkeypatch, capsys, tmp_path, *arguments.split())
    assert (code, len(err.splitlines())) == (2, 1), err
    assert err.startswith(f"error: {said}")
    assert not list(tmp_path.rglob("trl.*"))


def test_the_page_has_a_row_for_each_trainer_and_says_which_gradient_it_is(tmp_path):
    exact, near = Match(1.0, 0.5, 0.0), Match(0.5, 1.0, 0.0)
    rows = (
        Row("RLOOTrainer", "defaults", {REGULARISED: exact}, Match(1.0, 1.0, 0.0)),
        Row("GRPOTrainer", "loss_type=grpo", {REGULARISED: near}, None),
    )
    audit = TrainerAudit(rows, 4, 0.3, 2, 2, 7, 420, {"trl": "1.2.3"})
    page = write_trainers(tmp_path, audit).read_text(encoding="utf-8")
    for text in (
        "1.000000",
        "0.500000",
        "60.00°",
        "loss_type=grpo",
        "TRL 1.2.3",
        f"the gradient of {REGULARISED}, times",
    ):
        assert text in page
    assert verdict(audit) == (
        "Of 2 settings of TRL 1.2.3, 1 follow the gradient of the objective that their method is described by: "
        "RLOOTrainer (defaults)."
    )
    assert not re.findall(r"(?:src|href)=.(?!data:)", page)


@slow
def test_steps_of_both_programs_are_timed(monkeypatch, capsys):
    pytest.importorskip("trl")
    monkeypatch.setattr(trl_steps, "WARM", 1)
    monkeypatch.setattr(trl_steps, "STEPS", 1)
    trl_steps.run(1)
    said = capsys.readouterr().out
    assert "A GRPO step of 128 completions" in said
    assert "| rlnet |" in said
    assert "TRL takes" in said


@slow
def test_dpo_of_trl_is_the_gradient_of_the_divergence_of_preferences_and_rlnets_step(models):
    row = audited(models, gradients_of(models), Variant("DPOTrainer", {}, {}))
    assert row.nearest == row.aim == PREFERENCES
    assert row.matches[PREFERENCES].cosine == pytest.approx(1, abs=1e-6)
    assert row.matches[PREFERENCES].scale == pytest.approx(1, abs=1e-5)
    assert row.own.cosine == pytest.approx(1, abs=1e-6)
    assert row.own.scale == pytest.approx(1, abs=1e-5)
    assert row.matches[REGULARISED].cosine < 0.999


@slow
def test_pairs_that_are_preferred_the_other_way_are_seen(models):
    """The sign of the margin, planted: the update turns."""
    turned = {"loss_type": ["robust"], "label_smoothing": 0.9}
    assert audited(models, gradients_of(models), Variant("DPOTrainer", turned, {})).own.cosine < 0.9


@slow
def test_rloo_of_trl_is_exact_for_groups_of_two():
    pytest.importorskip("trl")
    models = Models(group=2)
    exact = audited(models, gradients_of(models), TABLE[0])
    assert exact.matches[REGULARISED].cosine == pytest.approx(1, abs=1e-6)
    assert exact.matches[REGULARISED].scale == pytest.approx(1, abs=1e-5)
    assert exact.verdict == f"the gradient of {REGULARISED}"


@slow
def test_options_of_the_user_are_those_of_the_trainer(monkeypatch, capsys, tmp_path):
    """Completions of one token: bnpo, the mean over tokens, is the gradient times (G − 1)/G. Refusals are told."""
    pytest.importorskip("trl")
    small = ("group=2", "length=1", "beta=0")
    options = ("trl=GRPOTrainer", "options.scale_rewards=none")
    code, err = called(monkeypatch, capsys, tmp_path, *options, "options.loss_type=bnpo", *small)
    assert (code, err) == (0, "")
    row = json.loads((tmp_path / "out" / "trl.json").read_text())["rows"][0]
    assert row["matches"]["E[R]"]["cosine"] == pytest.approx(1, abs=1e-6)  # every completion has one token
    assert row["matches"]["E[R]"]["scale"] == pytest.approx(1 / 2, abs=1e-5)  # (G − 1)/G
    assert "Is my GRPOTrainer the gradient I think it is?" in (tmp_path / "out" / "trl.html").read_text()
    code, err = called(monkeypatch, capsys, tmp_path, *options, "options.loss_type=bnpo", *small)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "already holds a run" in err
    monkeypatch.setattr(sys, "argv", ["rlnet audit", *options, "options.loss_type=nope", *small, "hydra.run.dir=new"])
    assert command.main() == 2
    assert "refuses it: Unknown loss type: nope" in capsys.readouterr().err
