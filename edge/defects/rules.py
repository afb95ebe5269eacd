"""What of each class is worth reporting, in pixels and counts."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.core.config import DefectsConfig


def worth_reporting(
    labels: Sequence[str], rules: DefectsConfig, pitch_mm: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Smallest area in pixels and smallest peak score 0..255, by class index.

    The small allowances keep a threshold that is a whole number of pixels from being missed by rounding.
    """
    kept = [rules.rule(label) for label in labels]
    area = [max(math.ceil(rule.min_area_mm2 / pitch_mm**2 - 1e-6), 1) for rule in kept]
    return np.array(area), np.array([math.ceil(rule.min_score * 255 - 1e-6) for rule in kept])
