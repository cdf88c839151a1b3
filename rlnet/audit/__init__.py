"""Audit of simulators: statistical tests that they agree with the model that dynamic programming solves."""

from rlnet.audit.audit import Audited, Finding, audit
from rlnet.audit.sources import PopulationSource, Seen, SingleSource, Source, VectorSource

__all__ = ["Audited", "Finding", "PopulationSource", "Seen", "SingleSource", "Source", "VectorSource", "audit"]
