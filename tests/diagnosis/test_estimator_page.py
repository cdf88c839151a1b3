"""The page of an audited update: every row in words, numbers as audited, nothing from a network."""

import re
from html import escape

import pytest
from support import composed

from rlnet.algos import best_of_n, grpo
from rlnet.diagnosis.estimator_audit import audit_estimator
from rlnet.diagnosis.estimator_page import CHOICES, OBJECTIVES, write_estimator


@pytest.mark.parametrize("options", [("algo=grpo",), ("algo=dpo",), ("algo=dapo", "algo.options.resample=2")])
def test_the_page_shows_what_was_audited_and_explains_every_row(options, tmp_path):
    group = [] if options == ("algo=dpo",) else ["algo.options.group=3", "algo.envs=3"]
    audit = audit_estimator(composed("env=tokens_nano", "network=tabular", "env.reference_steps=30", *options, *group))
    page = write_estimator(tmp_path, audit, "tokens_nano").read_text(encoding="utf-8")
    assert f"Is my {audit.algo} the gradient I think it is?" in page
    for name, match in {**audit.matches, **audit.of_kl}.items():
        assert f"{match.cosine:.6f}" in page
        assert name in page
        assert escape(OBJECTIVES[name], quote=False) in page.replace("&#39;", "'")
    assert ("The KL term alone" in page) == bool(audit.of_kl)
    assert ("drawn again" in page) == (audit.options.get("resample", 0) > 0)
    assert not re.findall(r"(?:src|href)=.(?!data:)", page)
    assert "http" not in page.replace("http://www.w3.org", "")


def test_every_choice_of_an_update_is_explained():
    for options in (grpo.OPTIONS, best_of_n.ALGORITHM.options):
        for name, choices in options.items():
            for value in choices if isinstance(choices, tuple) else ():
                assert f"{name}={value}" in CHOICES or value in ("none", False)
