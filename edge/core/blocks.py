"""What is left of an image where only the light on it matters: the means of a few large blocks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCKS_ACROSS, BLOCKS_ALONG = 8, 4
"""How finely a frame is looked at: shapes that lamps leave are smooth."""


def block_means(image: NDArray[Any]) -> NDArray[np.float64]:
    """Means (BLOCKS_ALONG, BLOCKS_ACROSS) of the blocks of an image (h, w) u8, u16 or f32, in parts of its counts.

    Rows first: cv2.resize alone would round what it makes of counts, and takes three times as long.
    """
    import cv2  # a tenth of a second that a command which only knows frames by name does not wait

    height, size = len(image), (BLOCKS_ACROSS, 1)
    means = np.empty((BLOCKS_ALONG, BLOCKS_ACROSS))
    for band in range(BLOCKS_ALONG):
        start = min(band * height // BLOCKS_ALONG, height - 1)
        stop = max(start + 1, (band + 1) * height // BLOCKS_ALONG)
        columns = cv2.reduce(image[start:stop], 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F)
        means[band] = cv2.resize(columns, size, interpolation=cv2.INTER_AREA)
    return means
