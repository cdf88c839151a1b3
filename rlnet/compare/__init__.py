"""Comparison of learned with exact values and policies: arrays in, scores out, for any library's learner (`score`)."""

from rlnet.compare.certificates import Certificates, certify
from rlnet.compare.judge import (
    Judged,
    TimeLimit,
    judge_policy,
    limited_values,
    reachable,
    time_limit,
    uniform_policy,
)
from rlnet.compare.library import Score, score
from rlnet.compare.member_scores import Comparison, Tables, score_population
from rlnet.compare.scores import AGAINST_OPTIMAL, AGAINST_POLICY, Scores, Truth, score_member
from rlnet.compare.sentence import sentence

__all__ = [
    "AGAINST_OPTIMAL",
    "AGAINST_POLICY",
    "Certificates",
    "Comparison",
    "Judged",
    "Score",
    "Scores",
    "Tables",
    "TimeLimit",
    "Truth",
    "certify",
    "judge_policy",
    "limited_values",
    "reachable",
    "score",
    "score_member",
    "score_population",
    "sentence",
    "time_limit",
    "uniform_policy",
]
