"""Images that other programs wrote."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.core.errors import ImportFolderError
from edge.core.reading import one_line, read_file
from edge.core.types import F32, Pixels
from edge.recording.tga import decode_tga

MAX_IMAGE_BYTES = 1 << 30
GRAY_FROM_BGR = np.array([0.114, 0.587, 0.299], np.float32)
"""Luma of ITU-R BT.601."""


def read_image(path: Path) -> Pixels:
    """An image as it lies in the file: (h, w) or (h, w, 3) in BGR order, u8 or u16, without alpha.

    Raises ImportFolderError.
    """
    data = read_file(path, MAX_IMAGE_BYTES, ImportFolderError)
    try:
        image = decode_tga(data) if path.suffix.lower() == ".tga" else _decode(data)
    except (ValueError, cv2.error) as error:
        raise ImportFolderError(f"{path}: not an image to import ({one_line(error)})") from error
    return image[:, :, :3] if image.ndim == 3 else image


def _decode(data: bytes) -> NDArray[Any]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if image is None:
        raise ValueError("expected PNG, TIFF, TGA, BMP or JPEG")
    if image.dtype not in (np.uint8, np.uint16) or (image.ndim == 3 and image.shape[2] not in (3, 4)):
        raise ValueError(f"{image.dtype} values of shape {image.shape}, expected gray or colour of 8 or 16 bit")
    return image


def read_gray(path: Path) -> F32:
    """An image's brightness, (h, w) in counts. Raises ImportFolderError."""
    image = read_image(path).astype(np.float32)
    return image if image.ndim == 2 else image @ GRAY_FROM_BGR
