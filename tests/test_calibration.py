"""The calibration file from anywhere: what it says is held against what it has."""

import io
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_recording import calibration_of

from edge.core.calibration import Calibration, Fit
from edge.core.errors import CalibrationError

HEIGHT, WIDTH = 5, 7
GOOD = calibration_of(HEIGHT, WIDTH)
TOML, FLAT, DIRECTIONS = "calibration.toml", "flat.npy", "light_directions.npy"


def members_of(calibration: Calibration) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(calibration.to_bytes())) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def with_member(name: str, change: Callable[[bytes], bytes]) -> bytes:
    members = members_of(GOOD)
    return zipped({**members, name: change(members[name])})


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def encrypted(data: bytes) -> bytes:
    at = data.index(b"PK\x01\x02")
    return data[: at + 8] + b"\x01" + data[at + 9 :]


def bomb() -> bytes:
    """A gigabyte in a member that states the size of what should be there."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    megabyte = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    data = bytearray(zipped({TOML: b"x" * 50}))
    data[30 + len(TOML) : 80 + len(TOML)] = megabyte * 1024
    at, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    data[at + 10 : at + 12] = data[8:10] = b"\x08\x00"
    data[at + 20 : at + 24] = data[18:22] = (len(megabyte) * 1024).to_bytes(4, "little")
    data[end + 16 : end + 20] = at.to_bytes(4, "little")
    return bytes(data)


def said(old: bytes, new: bytes) -> bytes:
    return with_member(TOML, lambda text: text.replace(old, new))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"junk", "not a calibration file"),
        (zipped(members_of(GOOD), zipfile.ZIP_DEFLATED), "compressed"),
        (encrypted(GOOD.to_bytes()), "encrypted"),
        (zipped({}), "calibration.toml"),
        (zipped({TOML: members_of(GOOD)[TOML]}), "light_directions.npy"),
        (with_member(TOML, lambda text: text + b"x = " + b"[" * 2000), "not a calibration file"),
        (with_member(TOML, lambda text: text + b"x = " + b"9" * 5000), "not a calibration file"),
        (said(b"schema = 1", b"schema = 2"), "schema 2 is unknown"),
        (said(b"schema = 1", b'schema = "\\u001b\\n' + b"x" * 5000 + b'"'), "calibration schema"),
        (said(b"height = 5", b"height = inf"), "height"),
        (said(b"height = 5", b"height = -5"), "7 x -5 pixels"),
        (said(b"height = 5", b'height = "5"'), "height"),
        (said(b"white = 255.0", b"white = inf"), "white"),
        (said(b"white = 255.0", b"white = 1e-300"), "white"),
        (said(b"pitch_mm = 0.05", b"pitch_mm = 5e-324"), "pitch"),
        (said(b"pitch_mm = 0.05", b"pitch_mm = nan"), "pitch"),
        (said(b"transport_sign = 1", b"transport_sign = 0"), "transport_sign"),
        (said(b"pitch_mm = 0.05", b"transport_angle_deg = nan"), "transport_angle_deg is nan"),
        (said(b"pitch_mm = 0.05", b"encoder_scale = 0.0"), "encoder_scale is 0.0"),
        (with_member(TOML, lambda text: text + b"[[fit]]\nwhat = 1"), "fit[0].what"),
        (with_member(FLAT, lambda _: npy(np.float32(1))), "three dimensions"),
        (with_member(DIRECTIONS, lambda _: npy(np.float64(1))), "three dimensions"),
        (with_member(FLAT, lambda _: npy(np.array([[[{}]]], object))), "three dimensions"),
        (with_member(FLAT, lambda _: npy(np.full((4, HEIGHT, WIDTH), 200, np.float64))), "float32"),
        (with_member(FLAT, lambda array: array.replace(b"(4, 5, 7)", b"(999999999, 9999, 9)")), "not a calibration"),
        (with_member(FLAT, lambda array: array[:10] + b"(" * 500 + array[510:]), "three dimensions"),
        (with_member(FLAT, lambda _: npy(np.full((4, HEIGHT, WIDTH), np.inf, np.float32))), "flat holds values"),
        (with_member(FLAT, lambda _: npy(np.full((4, HEIGHT, WIDTH), np.nan, np.float32))), "flat holds values"),
        (with_member(FLAT, lambda _: npy(np.full((4, HEIGHT, WIDTH), 1e-20, np.float32))), "not brighter"),
        (with_member(FLAT, lambda _: npy(np.full((4, HEIGHT, WIDTH), 1e-44, np.float32))), "flat holds values"),
        (with_member(FLAT, lambda _: npy(np.zeros((4, HEIGHT, 0), np.float32))), "shape"),
        (with_member(DIRECTIONS, lambda _: npy(np.full((4, 3, WIDTH), 1e308))), "light_directions holds values"),
    ],
)
def test_a_bad_calibration_is_refused_in_one_line_that_names_it(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "bad.zip"
    path.write_bytes(data)
    with pytest.raises(CalibrationError) as refused:
        Calibration.load(path)
    line = str(refused.value)
    assert line.startswith(f"{path}: ")
    assert says in line
    assert line.isprintable()
    assert len(line) < 600


@pytest.mark.parametrize("data", [bomb(), with_member(FLAT, lambda a: a.replace(b"(4, 5, 7)", b"(99999, 999, 9)"))])
def test_a_small_file_takes_little_memory_whatever_it_says(tmp_path: Path, data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CalibrationError):
            Calibration.from_bytes(data, "bad.zip")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 << 20


def test_a_device_is_not_read_for_ever() -> None:
    with pytest.raises(CalibrationError, match="/dev/zero: cannot be read"):
        Calibration.load(Path("/dev/zero"))


def test_a_light_on_the_horizon_cannot_have_a_flat_field() -> None:
    grazing = GOOD.light_directions.copy()
    grazing[0] = np.array([[1.0], [0.0], [1e-20]])
    with pytest.raises(CalibrationError, match="below the web"):
        replace(GOOD, light_directions=grazing)
    replace(GOOD, light_directions=grazing, dark=None, flat=None)


def test_a_direction_that_is_all_but_zero_is_refused() -> None:
    """Its determinants divide by zero."""
    directions = GOOD.light_directions.copy()
    directions[3] = np.array([[0.0], [5e-324], [1.0]])
    with pytest.raises(CalibrationError, match="light_directions holds values"):
        replace(GOOD, light_directions=directions)


def test_lights_that_jump_from_row_to_row_are_refused() -> None:
    with pytest.raises(CalibrationError, match="light_directions_per_row holds values"):
        replace(GOOD, light_directions_per_row=GOOD.light_directions * 1e300)


def test_what_was_fitted_comes_back_word_for_word() -> None:
    fits = (
        Fit('flat "quoted" \\', "2026-01-02T03:04:05Z", ["web 1.mcap", "dark.mcap"], {"error percent": 0.1}),
        Fit("scale", "2026-01-02T03:04:06Z", [], {}),
    )
    fitted = replace(GOOD, transport_angle_deg=-0.125, encoder_scale=1.0625, fits=fits)
    again = Calibration.from_bytes(fitted.to_bytes(), "again")
    assert (again.transport_angle_deg, again.encoder_scale, again.fits) == (-0.125, 1.0625, fits)
    assert again.digest == fitted.digest != GOOD.digest


def test_a_file_from_before_there_were_fits_reads_as_it_was_meant() -> None:
    old = members_of(GOOD)[TOML]
    assert not any(word in old for word in (b"transport_angle_deg", b"encoder_scale", b"fit"))
    assert (GOOD.transport_angle_deg, GOOD.encoder_scale, GOOD.fits) == (0.0, 1.0, ())


def test_arrays_of_another_type_come_back_as_what_the_file_holds() -> None:
    assert GOOD.dark is not None and GOOD.flat is not None
    other = replace(GOOD, dark=GOOD.dark.astype(np.float64), flat=np.asfortranarray(GOOD.flat))
    again = Calibration.from_bytes(other.to_bytes(), "again")
    assert again.digest == other.digest == GOOD.digest
    assert again.dark is not None and again.dark.dtype == np.float32
