"""The calibration file: what the line must know of its camera and lights, in one deterministic zip.

`calibration.toml` (scalars) beside `.npy` arrays; no pickle; two equal calibrations are equal bytes, so the SHA-256
of the file names the calibration.
"""

import hashlib
import io
import tomllib
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.core.errors import CalibrationError
from edge.core.photometry import MIN_SINGULAR_VALUE

SCHEMA = 1
MAX_FILE_BYTES = 2 << 30
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Camera and lights of one line.

    `light_directions` (n, 3, w) f64: unit vectors from surface to light, per column, at the centre image row;
    `light_directions_per_row` (n, 3, w) f64: their change per image row;
    `dark`, `flat` (n, h, w) f32 in sensor counts, on a flat diffuse target, both or neither;
    `white` the count at which the sensor saturates. Without a flat field images are albedo * n.l * `white`;
    `pitch_mm` web length of a pixel, None where unknown; `transport_sign` +1 when features move towards smaller image
    rows; `origin` says what it was made from.
    """

    height: int
    width: int
    light_directions: NDArray[np.float64]
    light_directions_per_row: NDArray[np.float64]
    dark: NDArray[np.float32] | None
    flat: NDArray[np.float32] | None
    white: float
    pitch_mm: float | None
    transport_sign: int
    origin: str

    def __post_init__(self) -> None:
        self._check()

    @property
    def lights(self) -> int:
        """Number of lights."""
        return int(self.light_directions.shape[0])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the calibration file, hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def _check(self) -> None:
        n, w, h = self.lights, self.width, self.height
        if n < 3:
            raise CalibrationError(f"calibration has {n} lights: photometric stereo needs at least three")
        shapes: list[tuple[str, NDArray[Any] | None, tuple[int, ...]]] = [
            ("light_directions", self.light_directions, (n, 3, w)),
            ("light_directions_per_row", self.light_directions_per_row, (n, 3, w)),
            ("dark", self.dark, (n, h, w)),
            ("flat", self.flat, (n, h, w)),
        ]
        for name, array, shape in shapes:
            if array is not None and array.shape != shape:
                raise CalibrationError(f"calibration: {name} has shape {array.shape}, expected {shape}")
            if array is not None and not np.isfinite(array).all():
                raise CalibrationError(f"calibration: {name} holds values that are not numbers")
        if (self.dark is None) != (self.flat is None):
            raise CalibrationError("calibration: dark and flat belong together, one of them is missing")
        if self.dark is not None and self.flat is not None and not (self.flat > self.dark).all():
            raise CalibrationError("calibration: the flat field is not brighter than the dark one everywhere")
        lengths = np.linalg.norm(self.light_directions, axis=1)
        if np.abs(lengths - 1).max() > 1e-3:
            raise CalibrationError("calibration: light directions are not unit vectors")
        if self.transport_sign not in (1, -1):
            raise CalibrationError(f"calibration: transport_sign is {self.transport_sign}, must be 1 or -1")
        if self.pitch_mm is not None and not 0 < self.pitch_mm < 100:
            raise CalibrationError(f"calibration: pitch of {self.pitch_mm} mm is not usable")
        if not self.white > 0:
            raise CalibrationError(f"calibration: white level {self.white} is not positive")
        smallest = np.linalg.svd(self.light_directions.transpose(2, 0, 1), compute_uv=False)[:, 2].min()
        if smallest < MIN_SINGULAR_VALUE:
            raise CalibrationError("lights lie in one plane, normals cannot be solved: at least three must differ")

    def to_bytes(self) -> bytes:
        """The calibration file; equal calibrations give equal bytes."""
        scalars: list[str] = [
            f"schema = {SCHEMA}",
            f"height = {self.height}",
            f"width = {self.width}",
            f"white = {float(self.white)!r}",
            f"transport_sign = {self.transport_sign}",
            f'origin = "{_toml_text(self.origin)}"',
        ]
        if self.pitch_mm is not None:
            scalars.append(f"pitch_mm = {float(self.pitch_mm)!r}")
        members = {"calibration.toml": ("\n".join(scalars) + "\n").encode()}
        for name in ("light_directions", "light_directions_per_row", "dark", "flat"):
            array = getattr(self, name)
            if array is not None:
                buffer = io.BytesIO()
                np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
                members[f"{name}.npy"] = buffer.getvalue()
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
            for name, data in sorted(members.items()):
                archive.writestr(zipfile.ZipInfo(name, date_time=_EPOCH), data)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "Calibration":
        """Read a calibration file's bytes; `where` names it in errors. Raises CalibrationError."""
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if sum(info.file_size for info in archive.infolist()) > MAX_FILE_BYTES:
                    raise CalibrationError(f"{where}: calibration is larger than any camera needs")
                scalars = tomllib.loads(archive.read("calibration.toml").decode())
                arrays = {
                    info.filename.removesuffix(".npy"): _read_array(archive.read(info))
                    for info in archive.infolist()
                    if info.filename.endswith(".npy")
                }
            if scalars.get("schema") != SCHEMA:
                raise CalibrationError(f"{where}: calibration schema {scalars.get('schema')} is unknown here")
            dark, flat = arrays.get("dark"), arrays.get("flat")
            return cls(
                height=int(scalars["height"]),
                width=int(scalars["width"]),
                light_directions=arrays["light_directions"].astype(np.float64),
                light_directions_per_row=arrays["light_directions_per_row"].astype(np.float64),
                dark=None if dark is None else dark.astype(np.float32),
                flat=None if flat is None else flat.astype(np.float32),
                white=float(scalars["white"]),
                pitch_mm=scalars.get("pitch_mm"),
                transport_sign=int(scalars["transport_sign"]),
                origin=str(scalars["origin"]),
            )
        except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError, NotImplementedError) as error:
            raise CalibrationError(f"{where}: not a calibration file ({error})") from error

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Read a calibration file. Raises CalibrationError."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CalibrationError(f"{path}: cannot be read ({error.strerror})") from error
        return cls.from_bytes(data, str(path))

    def save(self, path: Path) -> None:
        """Write the calibration file."""
        path.write_bytes(self.to_bytes())


def _read_array(data: bytes) -> NDArray[Any]:
    array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    return array


def _toml_text(text: str) -> str:
    kept = "".join(c if c.isprintable() else " " for c in text)
    return kept.replace("\\", "\\\\").replace('"', '\\"')
