"""The types of the arrays of a replica."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Codes = NDArray[np.integer[Any]]
"""Codes of values. See ``dictionary``."""

Slots = NDArray[np.int64]
"""Slots of rows: their indexes in every column. See ``Columns``."""

Ranks = NDArray[np.int32]
"""Ranks of rows: their positions in the order of a sorted index."""

Mask = NDArray[np.bool_]
"""One truth value for each slot."""
