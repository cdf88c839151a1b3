"""Auditing simulators: does what they do agree with the model that dynamic programming solves?"""

from rlnet.audit.audit import Audited, Finding, audit
from rlnet.audit.sources import Seen, SingleSource, Source, TorchSource, VectorSource

__all__ = ["Audited", "Finding", "Seen", "SingleSource", "Source", "TorchSource", "VectorSource", "audit"]
