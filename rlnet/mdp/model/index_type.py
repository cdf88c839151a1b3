"""The integers that hold indices."""

from __future__ import annotations

import numpy as np


def index_dtype(largest: int) -> type[np.signedinteger]:
    """int32 wherever the largest index or count fits: a sweep is bound by memory traffic."""
    return np.int32 if largest <= np.iinfo(np.int32).max else np.int64
