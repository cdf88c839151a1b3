"""Floating-point error handling of numpy."""

from typing import Literal, TypedDict


class _Ignored(TypedDict):
    over: Literal["ignore"]
    invalid: Literal["ignore"]
    divide: Literal["ignore"]


# Passed to `numpy.errstate` where networks and losses compute: a member that diverges is reported by the learner.
QUIET: _Ignored = {"over": "ignore", "invalid": "ignore", "divide": "ignore"}
