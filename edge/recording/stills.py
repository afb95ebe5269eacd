"""Import: photographs of a still object under known lights become a recording.

Conversion as in the DiLiGenT benchmark (Shi et al., CVPR 2016), so that its published baselines are reproduced: each
channel over full scale, divided by the light's intensity, then gray by the weights of ITU-R BT.601, clipped at 1.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.core.calibration import Calibration
from edge.core.errors import CalibrationError, ImportFolderError
from edge.core.types import Frame, Pixels
from edge.recording.image_file import GRAY_FROM_BGR, read_image
from edge.recording.lights_file import Light, LightsFile, load_lights
from edge.recording.writer import RecordingWriter

_FRAME_INTERVAL_NS = 1_000_000  # made up, equal at every import


def import_images(
    folder: Path, lights_file: Path, out: Path, progress: Callable[[int, int], None] | None = None
) -> int:
    """Write the images in `folder` that `lights_file` names as a recording `out`; returns the number of frames.

    One frame a light. PNG, TIFF, BMP, JPEG, TGA; 8 or 16 bit; gray or colour, all alike; alpha is dropped. Frames are
    u16 with white 65535; u8 with white 255 where the images are 8-bit gray and no light has an intensity. `progress`
    is called with (images done, of how many). Raises ImportFolderError, CalibrationError for lights that cannot be
    solved, RecordingError for `out`; after an error no new `out` is left behind.
    """
    lights = load_lights(lights_file)
    if not folder.is_dir():
        raise ImportFolderError(f"{folder}: no such folder of images")
    paths = [folder / light.file for light in lights.light]
    first = read_image(paths[0])
    as_is = first.dtype == np.uint8 and first.ndim == 2 and all(light.intensity is None for light in lights.light)
    try:
        calibration = _calibration(lights, first, 255.0 if as_is else 65535.0, f"lights file {lights_file.name}")
    except CalibrationError as error:
        raise CalibrationError(f"{lights_file}: {error}") from error
    recording = RecordingWriter(out, calibration)
    try:
        with recording as writer:
            for index, (path, light) in enumerate(zip(paths, lights.light, strict=True)):
                image = read_image(path)
                _check_alike(path, image, first)
                pixels = image if as_is else _gray(image, light, path)
                writer.write(Frame(pixels, index, index, 0.0, index * _FRAME_INTERVAL_NS, 0.0))
                if progress is not None:
                    progress(index + 1, len(paths))
    except BaseException:
        out.unlink(missing_ok=True)
        raise
    return len(paths)


def _check_alike(path: Path, image: Pixels, first: Pixels) -> None:
    if (image.shape, image.dtype) != (first.shape, first.dtype):
        raise ImportFolderError(f"{path}: {_kind(image)}, the first image is {_kind(first)}: all must be alike")


def _kind(image: Pixels) -> str:
    colour = "gray" if image.ndim == 2 else "colour"
    return f"{image.shape[1]} x {image.shape[0]} pixels, {8 * image.dtype.itemsize}-bit {colour}"


def _gray(image: Pixels, light: Light, path: Path) -> NDArray[np.uint16]:
    """Brightness relative to the light, (h, w) with white 65535."""
    intensity = 1.0 if light.intensity is None else light.intensity
    if image.ndim == 2:
        if isinstance(intensity, tuple):
            raise ImportFolderError(f"{path}: is gray and its intensity has three colours: give one number")
        gray = image.astype(np.float32) / np.float32(intensity)
    else:
        bgr = np.broadcast_to(np.asarray(intensity, np.float32), 3)[::-1]
        gray = image.astype(np.float32) @ (GRAY_FROM_BGR / bgr)
    gray *= 65535.0 / np.iinfo(image.dtype).max
    converted: NDArray[np.uint16] = np.rint(np.clip(gray, 0, 65535)).astype(np.uint16)
    return converted


def _calibration(lights: LightsFile, image: Pixels, white: float, origin: str) -> Calibration:
    height, width = image.shape[:2]
    directions = np.array([light.direction for light in lights.light], np.float64)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    per_column = np.repeat(directions[:, :, None], width, axis=2)
    return Calibration(
        height=height,
        width=width,
        light_directions=per_column,
        light_directions_per_row=np.zeros_like(per_column),
        dark=None,
        flat=None,
        white=white,
        pitch_mm=lights.pitch_mm,
        transport_sign=1,
        origin=origin,
    )
