"""Arrays that start on a cache line, where vectors of full lines can be loaded and streamed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LINE_BYTES = 64


def empty_on_line(shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """An uninitialised C-contiguous array that starts on a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + LINE_BYTES, np.uint8)
    skip = -memory.ctypes.data % LINE_BYTES
    return memory[skip : skip + size].view(dtype).reshape(shape)
