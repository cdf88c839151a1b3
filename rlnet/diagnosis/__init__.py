"""Diagnosis of a finished run: which part of the method is to blame for which part of the error."""

from rlnet.diagnosis.job import diagnose, diagnose_and_write
from rlnet.diagnosis.targets import NotDefined

__all__ = ["NotDefined", "diagnose", "diagnose_and_write"]
