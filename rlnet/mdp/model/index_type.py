"""Integer type of index arrays."""

from __future__ import annotations

import numpy as np


def index_dtype(largest: int) -> type[np.signedinteger]:
    """int32 where the largest index or count fits, else int64: sweeps are bound by memory traffic."""
    return np.int32 if largest <= np.iinfo(np.int32).max else np.int64
