"""Diagnosis of a finished run: the error split into approximation, distribution, bootstrapping and the rest."""

from rlnet.diagnosis.job import diagnose, diagnose_and_write
from rlnet.diagnosis.targets import NotDefined

__all__ = ["NotDefined", "diagnose", "diagnose_and_write"]
