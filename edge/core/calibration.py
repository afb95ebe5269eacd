"""The calibration file: what the line must know of its camera and lights, in one deterministic zip.

`calibration.toml` (scalars) beside `.npy` arrays; no pickle; two equal calibrations are equal bytes, so the SHA-256
of the file names the calibration.
"""

import hashlib
import io
import re
import struct
import tomllib
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.core.errors import CalibrationError
from edge.core.photometry import MIN_SINGULAR_VALUE
from edge.core.reading import one_line, read_file, read_opened

SCHEMA = 1
MAX_FILE_BYTES = 2 << 30
MAX_SIDE_PX = 1 << 16
MAX_WHITE = 65535
"""Pixels have 16 bits at most."""
MAX_COUNTS = 1e6
SMALLEST = 1e-30
"""What is closer to 0 without being 0 has no inverse that a float32 or a determinant can hold."""
MIN_FLAT_COUNTS = 1e-3
"""A flat field that is not even this much brighter than the dark one holds no light."""
MIN_ELEVATION = 1e-3
"""Smallest z of a unit direction: a light lower than this does not light a flat target."""
MIN_PITCH_MM, MAX_PITCH_MM = 1e-6, 100.0
MAX_TRANSPORT_ANGLE_DEG = 10.0
MIN_ENCODER_SCALE, MAX_ENCODER_SCALE = 0.5, 2.0
MIN_SLOPE_GAIN, MAX_SLOPE_GAIN = 0.5, 3.0
_ARRAYS: dict[str, type[np.floating[Any]]] = {
    "light_directions": np.float64,
    "light_directions_per_row": np.float64,
    "dark": np.float32,
    "flat": np.float32,
}
_OPTIONAL = ("dark", "flat")
_NPY_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(?P<dtype>[<>]f[48])', 'fortran_order': False, "
    rb"'shape': \((?P<shape>\d{1,9}, \d{1,9}, \d{1,9})\), \} *\n",
    re.DOTALL,
)
_ENCRYPTED = 1
# What zipfile, tomllib, msgspec and NumPy let through when bytes are missing or not what they should be.
_DAMAGE = (
    zipfile.BadZipFile,
    msgspec.ValidationError,
    KeyError,
    ValueError,
    EOFError,
    NotImplementedError,
    RecursionError,
    struct.error,
)
_EPOCH = (1980, 1, 1, 0, 0, 0)


class Fit(msgspec.Struct, frozen=True):
    """How a part of a calibration was found: `what` was fitted, `when` (UTC, RFC 3339), from which files, and how well:
    `scores` by names that carry their units."""

    what: str
    when: str
    sources: list[str]
    scores: dict[str, float]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Camera and lights of one line.

    `light_directions` (n, 3, w) f64: unit vectors from surface to light, per column, at the centre image row;
    `light_directions_per_row` (n, 3, w) f64: their change per image row;
    `dark`, `flat` (n, h, w) f32 in sensor counts, on a flat diffuse target, both or neither;
    `white` the count at which the sensor saturates. Without a flat field images are albedo * n.l * `white`;
    `pitch_mm` web length of a pixel, None where unknown; `transport_sign` +1 when features move towards smaller image
    rows; `transport_angle_deg` by how much their way leans towards larger image columns; `encoder_scale` millimetres of
    web to a millimetre of the encoder; `slope_gain` by how much gloss makes gentle slopes look steeper than they are;
    `origin` says what it was made from, `fits` what was fitted since.
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
    transport_angle_deg: float = 0.0
    encoder_scale: float = 1.0
    slope_gain: float = 1.0
    fits: tuple[Fit, ...] = ()

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
        if not (1 <= w <= MAX_SIDE_PX and 1 <= h <= MAX_SIDE_PX):
            raise CalibrationError(f"calibration: no camera has {w} x {h} pixels")
        arrays: list[tuple[str, NDArray[Any] | None, tuple[int, ...], float]] = [
            ("light_directions", self.light_directions, (n, 3, w), 1.1),
            ("light_directions_per_row", self.light_directions_per_row, (n, 3, w), 1.0),
            ("dark", self.dark, (n, h, w), MAX_COUNTS),
            ("flat", self.flat, (n, h, w), MAX_COUNTS),
        ]
        for name, array, shape, limit in arrays:
            if array is not None and array.shape != shape:
                raise CalibrationError(f"calibration: {name} has shape {array.shape}, expected {shape}")
            if array is not None and not _within(array, limit):
                raise CalibrationError(
                    f"calibration: {name} holds values that are not numbers, beyond {limit:g} or below {SMALLEST:g}"
                )
        if (self.dark is None) != (self.flat is None):
            raise CalibrationError("calibration: dark and flat belong together, one of them is missing")
        if self.dark is not None and self.flat is not None:
            if not (self.flat - self.dark >= MIN_FLAT_COUNTS).all():
                raise CalibrationError("calibration: the flat field is not brighter than the dark one everywhere")
            if self.light_directions[:, 2].min() < MIN_ELEVATION:
                raise CalibrationError("a light lies below the web: no flat field can come from it")
        lengths = np.linalg.norm(self.light_directions, axis=1)
        if np.abs(lengths - 1).max() > 1e-3:
            raise CalibrationError("calibration: light directions are not unit vectors")
        if self.transport_sign not in (1, -1):
            raise CalibrationError(f"calibration: transport_sign is {self.transport_sign}, must be 1 or -1")
        if self.pitch_mm is not None and not MIN_PITCH_MM <= self.pitch_mm <= MAX_PITCH_MM:
            raise CalibrationError(f"calibration: pitch of {self.pitch_mm} mm is not usable")
        if not -MAX_TRANSPORT_ANGLE_DEG <= self.transport_angle_deg <= MAX_TRANSPORT_ANGLE_DEG:
            raise CalibrationError(
                f"calibration: transport_angle_deg is {self.transport_angle_deg}, beyond {MAX_TRANSPORT_ANGLE_DEG:g}: "
                "turn the camera"
            )
        if not MIN_ENCODER_SCALE <= self.encoder_scale <= MAX_ENCODER_SCALE:
            raise CalibrationError(
                f"calibration: encoder_scale is {self.encoder_scale}, not from {MIN_ENCODER_SCALE:g} to "
                f"{MAX_ENCODER_SCALE:g}: mend the configuration's encoder_mm_per_count"
            )
        if not MIN_SLOPE_GAIN <= self.slope_gain <= MAX_SLOPE_GAIN:
            raise CalibrationError(
                f"calibration: slope_gain is {self.slope_gain}, not from {MIN_SLOPE_GAIN:g} to {MAX_SLOPE_GAIN:g}: "
                "gloss does less, look at the lights and at the flat field"
            )
        if not 1 <= self.white <= MAX_WHITE:
            raise CalibrationError(f"calibration: white level {self.white} is not from 1 to {MAX_WHITE}")
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
        if self.transport_angle_deg:
            scalars.append(f"transport_angle_deg = {float(self.transport_angle_deg)!r}")
        if self.encoder_scale != 1:
            scalars.append(f"encoder_scale = {float(self.encoder_scale)!r}")
        if self.slope_gain != 1:
            scalars.append(f"slope_gain = {float(self.slope_gain)!r}")
        scalars += [line for fit in self.fits for line in _toml_lines(fit)]
        members = {"calibration.toml": ("\n".join(scalars) + "\n").encode()}
        for name, dtype in _ARRAYS.items():
            array = getattr(self, name)
            if array is not None:
                buffer = io.BytesIO()
                np.save(buffer, np.ascontiguousarray(array, dtype), allow_pickle=False)
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
            return cls._read(data)
        except CalibrationError as error:
            raise CalibrationError(f"{where}: {one_line(error)}") from error
        except _DAMAGE as error:
            raise CalibrationError(f"{where}: not a calibration file ({one_line(error)})") from error

    @classmethod
    def _read(cls, data: bytes) -> "Calibration":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            tree = tomllib.loads(_member(archive, "calibration.toml").decode())
            if tree.get("schema") != SCHEMA:
                raise CalibrationError(f"calibration schema {tree.get('schema')} is unknown here")
            scalars = msgspec.convert(tree, _Scalars)
            arrays = {
                name: _read_array(_member(archive, f"{name}.npy"), dtype)
                for name, dtype in _ARRAYS.items()
                if name not in _OPTIONAL or f"{name}.npy" in archive.namelist()
            }
        return cls(
            height=scalars.height,
            width=scalars.width,
            light_directions=arrays["light_directions"],
            light_directions_per_row=arrays["light_directions_per_row"],
            dark=arrays.get("dark"),
            flat=arrays.get("flat"),
            white=scalars.white,
            pitch_mm=scalars.pitch_mm,
            transport_sign=scalars.transport_sign,
            origin=scalars.origin,
            transport_angle_deg=scalars.transport_angle_deg,
            encoder_scale=scalars.encoder_scale,
            slope_gain=scalars.slope_gain,
            fits=tuple(scalars.fit),
        )

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Read a calibration file. Raises CalibrationError."""
        return cls.from_bytes(read_file(path, MAX_FILE_BYTES, CalibrationError), str(path))

    @classmethod
    def load_opened(cls, file: int, name: Path) -> "Calibration":
        """As `load`, of a file that somebody else has opened: a descriptor, and what errors call it."""
        return cls.from_bytes(read_opened(file, name, MAX_FILE_BYTES, CalibrationError), str(name))

    def save(self, path: Path) -> None:
        """Write the calibration file."""
        path.write_bytes(self.to_bytes())


class _Scalars(msgspec.Struct, frozen=True):
    """What `calibration.toml` holds beside the schema."""

    height: int
    width: int
    white: float
    transport_sign: int
    origin: str
    pitch_mm: float | None = None
    transport_angle_deg: float = 0.0
    encoder_scale: float = 1.0
    slope_gain: float = 1.0
    fit: list[Fit] = []


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member as it lies in the file: what is not packed cannot grow."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & _ENCRYPTED:
        raise ValueError(f"{name} is compressed or encrypted")
    return archive.read(info)


def _within(array: NDArray[Any], limit: float) -> bool:
    size = np.abs(array)
    return bool(((size <= limit) & ((size >= SMALLEST) | (size == 0))).all())


def _read_array(data: bytes, dtype: type[np.floating[Any]]) -> NDArray[Any]:
    """An array of three dimensions as `to_bytes` writes it.

    Not by `np.load`, which evaluates the header and allocates what it says before it looks for that much.
    """
    header = _NPY_HEADER.match(data)
    if header is None or header["dtype"].decode() != np.dtype(dtype).newbyteorder("<").str:
        raise ValueError(f"an array is not of three dimensions and {np.dtype(dtype).name}")
    values = np.frombuffer(data, np.dtype(dtype).newbyteorder("<"), offset=header.end())
    return values.reshape([int(length) for length in header["shape"].split(b",")]).astype(dtype)


def _toml_lines(fit: Fit) -> list[str]:
    sources = ", ".join(f'"{_toml_text(source)}"' for source in fit.sources)
    return [
        "[[fit]]",
        f'what = "{_toml_text(fit.what)}"',
        f'when = "{_toml_text(fit.when)}"',
        f"sources = [{sources}]",
        "[fit.scores]",
        *(f'"{_toml_text(name)}" = {float(score)!r}' for name, score in fit.scores.items()),
    ]


def _toml_text(text: str) -> str:
    kept = "".join(c if c.isprintable() else " " for c in text)
    return kept.replace("\\", "\\\\").replace('"', '\\"')
