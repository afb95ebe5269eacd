"""Every file and order that Foilsight takes from elsewhere: good ones to begin with, how one goes bad, what is done.

A file that is taken must also serve: it is used to its last row here, as what is read late may fail late.
"""

import math
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random

import msgspec
import numpy as np
from mcap.exceptions import McapError

from edge.core.calibration import Calibration
from edge.core.config import load_config
from edge.core.errors import ConfigError, FoilsightError
from edge.core.photometry import lights_solvable
from edge.core.types import F32, U8, Frame, PlantedDefect
from edge.recording.lights_file import load_lights
from edge.recording.reader import Recording
from edge.recording.recovery import recover
from edge.recording.stills import import_images
from edge.recording.writer import RecordingWriter
from edge.segmentation.model import load_model
from edge.segmentation.stream import Segmenter
from edge.surface.matrices import matrices_for

from .damage import damaged_bytes
from .mcap_files import damaged_mcap
from .model_files import damaged_json, damaged_model, model_of
from .orders import orders, use_order
from .requests import ask, damaged_request, requests
from .toml_files import damaged_toml
from .zip_files import damaged_zip

HEIGHT, WIDTH, LIGHTS = 8, 16, 4
_DIRECTIONS = np.array([[0.6, 0, 0.8], [0, 0.6, 0.8], [-0.6, 0, 0.8], [0, -0.6, 0.8]])


_CANNOT_BE_TAKEN_APART = (ValueError, LookupError, OverflowError, RecursionError, struct.error, McapError)


@dataclass(frozen=True)
class Target:
    """`seeds()`: good files; `damage(data, random)`: one of them with one thing wrong, an error where `data` cannot be
    taken apart; `use(path)`: what a line does with it."""

    seeds: Callable[[], list[bytes]]
    damage: Callable[[bytes, Random], bytes]
    use: Callable[[Path], None]

    def damaged(self, data: bytes, random: Random) -> bytes:
        """`data` with one to four things wrong."""
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            with suppress(*_CANNOT_BE_TAKEN_APART):
                data = self.damage(data, random)
        return damaged_bytes(data, random) if random.randrange(6) == 0 else data


# --- config


@cache
def _configs() -> list[bytes]:
    return [
        b"",
        b"""line = "A"
roll = "R 17"
calibration = "line.zip"
[assembly]
strip_rows = 128
[segmentation]
model = "foil.onnx"
window_width_px = 1024
precision = "f32"
[defects]
default = { min_area_mm2 = 0.1, min_score = 0.5 }
[defects.classes.crack]
min_area_mm2 = 0.02
[events]
publish = "tcp://127.0.0.1:5570"
replay = "tcp://127.0.0.1:5571"
heartbeat_s = 2.5
secret_key = "line.key"
clients = "clients"
line_key = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
[mqtt]
host = "broker"
port = 8883
tls = true
""",
    ]


def _use_config(path: Path) -> None:
    if not (path.parent / "line.zip").exists():
        (path.parent / "line.zip").write_bytes(_calibrations()[0])
        (path.parent / "foil.onnx").write_bytes(_models()[0])
    config = load_config(path)
    for rule in (config.defects.default, config.defects.rule("crack"), *config.defects.classes.values()):
        assert math.isfinite(rule.min_area_mm2), "an area that nothing exceeds hides every defect"
    assert math.isfinite(config.events.heartbeat_s)
    if config.calibration is not None:
        Calibration.load(config.calibration)
    if config.segmentation.model is not None:
        load_model(config.segmentation.model)


# --- lights file


@cache
def _lights_files() -> list[bytes]:
    lights = [f"[[light]]\ndirection = {list(d)}\nfiles = '{k}.tga'\n" for k, d in enumerate(_DIRECTIONS.tolist())]
    bright = [f"{light}intensity = [0.5, 1.0, 2.0]\n" for light in lights]
    return ["".join(lights).encode(), ("pitch_mm = 0.05\n" + "".join(bright)).encode()]


def _use_lights(path: Path) -> None:
    folder = path.parent / "photographs"
    if not folder.exists():
        folder.mkdir()
        for k in range(LIGHTS):
            (folder / f"{k}.tga").write_bytes(_tga(k))
    load_lights(path)
    _use_import(folder, path)


def _use_import(folder: Path, lights_file: Path) -> None:
    out = folder.parent / "out.mcap"
    try:
        import_images(folder, lights_file, out)
        recording = Recording(out)
        _use_calibration_of(recording.calibration)
        assert len(list(recording.frames())) == recording.calibration.lights
    finally:
        out.unlink(missing_ok=True)


# --- photographs


@cache
def _photographs() -> list[bytes]:
    return [_tga(0), _tga(0, run_length=True)]


def _tga(index: int, run_length: bool = False) -> bytes:
    header = struct.pack("<BBBHHBHHHHBB", 0, 0, 10 if run_length else 2, 0, 0, 0, 0, 0, WIDTH, HEIGHT, 24, 0x20)
    pixels = np.random.default_rng(index).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8).tobytes()
    if run_length:
        rows = [pixels[at : at + 3 * WIDTH] for at in range(0, len(pixels), 3 * WIDTH)]
        plain, repeated = bytes([WIDTH - 1]), bytes([0x7F + WIDTH])
        pixels = b"".join(plain + row if k % 2 else repeated + row[:3] for k, row in enumerate(rows))
    return header + pixels


def _use_photograph(path: Path) -> None:
    """The first of four photographs is the one from elsewhere."""
    lights_file = path.parent / "lights.toml"
    if not lights_file.exists():
        for k in range(1, LIGHTS):
            (path.parent / f"{k}.tga").write_bytes(_tga(k))
        lights_file.write_bytes(_lights_files()[0].replace(b"0.tga", path.name.encode()))
    _use_import(path.parent, lights_file)


# --- calibration


@cache
def _calibrations() -> list[bytes]:
    flat = np.random.default_rng(1).uniform(150, 200, (LIGHTS, HEIGHT, WIDTH)).astype(np.float32)
    with_flat = _calibration(flat)
    return [with_flat.to_bytes(), replace(with_flat, dark=None, flat=None, pitch_mm=None).to_bytes()]


def _calibration(flat: F32) -> Calibration:
    directions = np.repeat(_DIRECTIONS[:, :, None], WIDTH, axis=2)
    return Calibration(HEIGHT, WIDTH, directions, directions * 1e-4, flat * 0, flat, 255.0, 0.05, 1, "made to break")


def _use_calibration(path: Path) -> None:
    calibration = Calibration.load(path)
    _use_calibration_of(calibration)
    again = Calibration.from_bytes(calibration.to_bytes(), "written again")
    assert again.digest == calibration.digest


def _use_calibration_of(calibration: Calibration) -> None:
    every = np.full((calibration.lights + 7) // 8, 255, np.uint8)
    assert lights_solvable(calibration.light_directions, every)
    matrices = matrices_for(calibration, np.arange(calibration.lights))
    for part in (matrices.g, matrices.g_per_row, matrices.inverse, matrices.checksum, matrices.saturation):
        assert np.isfinite(part.astype(np.float32)).all(), "a number that the kernels cannot hold"


# --- recording


@cache
def _recordings() -> list[bytes]:
    """One with all that a recording can hold, one that is torn."""
    flat = np.full((LIGHTS, HEIGHT, WIDTH), 200, np.float32)
    planted = PlantedDefect(id=1, label="crack", box_mm=(0, 0, 1, 1), length_mm=0.2, width_mm=0.1, relief_mm=-0.01)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "whole.mcap")
        with RecordingWriter(path, _calibration(flat), roll="R 17", generator={"name": "foil"}) as writer:
            for index in range(3):
                dtype = np.uint16 if index == 2 else np.uint8
                pixels = np.random.default_rng(index).integers(0, 256, (HEIGHT, WIDTH), dtype)
                writer.write(Frame(pixels, index, index, 0.1 * index, index, 9.0))
            for first_row in (0, 8):
                writer.write_truth_classes(first_row, np.full((8, WIDTH), 2, np.uint8))
            writer.write_truth_defects([planted])
            writer.close(frames_dropped=3)
        whole = path.read_bytes()
    return [whole, whole[: len(whole) * 3 // 4]]


def _use_recording(path: Path) -> None:
    recording = Recording(path)
    _use_calibration_of(recording.calibration)
    refusals: list[FoilsightError] = []
    for use in (_frames, _length, _truth, _defects, _counts, _recovered):
        try:
            use(recording, path)
        except FoilsightError as error:
            refusals.append(error)
    for error in refusals:
        raise error


def _frames(recording: Recording, path: Path) -> None:
    calibration = recording.calibration
    for frame in recording.frames():
        assert frame.pixels.shape == (calibration.height, calibration.width)
        assert 0 <= frame.light < calibration.lights
        assert math.isfinite(frame.encoder_mm)
        assert math.isfinite(frame.exposure_us)
        assert frame.pixels.sum() >= 0


def _length(recording: Recording, path: Path) -> None:
    web_mm = recording.web_mm
    assert web_mm is None or 0 <= web_mm < math.inf


def _truth(recording: Recording, path: Path) -> None:
    classes = recording.truth_classes()
    assert classes is None or classes.shape[1] == recording.calibration.width
    if recording.has_truth:
        assert recording.truth_rows(4, 16).shape == (16, recording.calibration.width)


def _defects(recording: Recording, path: Path) -> None:
    for defect in recording.truth_defects() or ():
        assert all(map(math.isfinite, (*defect.box_mm, defect.length_mm, defect.width_mm, defect.relief_mm)))


def _counts(recording: Recording, path: Path) -> None:
    assert (recording.frame_count is None) == recording.torn or recording.frame_count is None
    assert recording.frames_dropped is None or recording.frames_dropped >= 0
    assert isinstance(recording.roll, str)
    assert isinstance(recording.generator, dict)


def _recovered(recording: Recording, path: Path) -> None:
    out = path.parent / "recovered.mcap"
    try:
        recovered = recover(path, out, lambda _: None)
        if recovered.torn:
            assert _opened(out).frame_count == recovered.frames
    finally:
        out.unlink(missing_ok=True)


def _opened(recovered: Path) -> Recording:
    try:
        return Recording(recovered)
    except FoilsightError as error:
        raise AssertionError("what was recovered is no recording") from error


# --- model


@cache
def _models() -> list[bytes]:
    info = load_model(None).info
    plain = msgspec.structs.replace(
        info, channels=["normal_x"], classes=["background", "crack"], thresholds=[0.5], gate=None
    )
    return [model_of(info), model_of(msgspec.structs.replace(plain, accuracy={}, provenance={}))]


class _Nothing:
    """A network that finds nothing."""

    name = precision = "none"

    def infer(self, surface: F32) -> tuple[U8, U8]:
        none = np.zeros((1, *surface.shape[2:]), np.uint8)
        return none, none


def _use_model(path: Path) -> None:
    info = load_model(path).info
    assert math.isfinite(info.pitch_mm)
    for precision in ("f32", "bf16", "int8"):
        loss = info.loss(precision)
        assert loss is None or -1 <= loss <= 1
        info.within_budget(precision)
    with suppress(ConfigError):  # a grid that the line's strips do not lie on
        Segmenter(_Nothing(), info, width=WIDTH, strip_rows=256, window_width=2048)


TARGETS = {
    "config": Target(_configs, damaged_toml, _use_config),
    "lights": Target(_lights_files, damaged_toml, _use_lights),
    "photograph": Target(_photographs, damaged_bytes, _use_photograph),
    "calibration": Target(_calibrations, damaged_zip, _use_calibration),
    "recording": Target(_recordings, damaged_mcap, _use_recording),
    "model": Target(_models, damaged_model, _use_model),
    "request": Target(requests, damaged_request, ask),
    "order": Target(orders, damaged_json, use_order),
}


@contextmanager
def file_for(name: str) -> Iterator[Path]:
    """Where the file of a target is put, in a folder of its own: in memory where there is one, disks take longer than
    the reading."""
    in_memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=in_memory if in_memory.is_dir() else None) as folder:
        yield Path(folder, "0.tga" if name == "photograph" else f"{name}.file")
