"""Import: photographs under known lights come out as the frames their conversion protocol says."""

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.core.errors import CalibrationError, FoilsightError, ImportFolderError, RecordingError
from edge.recording.reader import Recording
from edge.recording.stills import import_images
from edge.recording.tga import decode_tga

DIRECTIONS = [(1.2, 0, 1.6), (0, 0.6, 0.8), (-3, 0, 4), (0, -6, 8)]
HEIGHT, WIDTH = 6, 11


def image_of(seed: int, colour: bool, dtype: type) -> NDArray[np.generic]:
    """Random pixels (h, w) or (h, w, 3) RGB with black and full scale among them."""
    shape = (HEIGHT, WIDTH, 3) if colour else (HEIGHT, WIDTH)
    image = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    image[0, 0], image[0, 1] = 0, np.iinfo(dtype).max
    return image


def save(path: Path, rgb: NDArray[np.generic]) -> None:
    if path.suffix == ".tga":
        path.write_bytes(tga_of(rgb))
    else:
        path.write_bytes(cv2.imencode(path.suffix, rgb[..., ::-1] if rgb.ndim == 3 else rgb)[1].tobytes())


def tga_of(rgb: NDArray[np.generic], *, run_length: bool = False, descriptor: int = 0x20, name: bytes = b"") -> bytes:
    """A TGA file of an RGB(A) or gray image as it lies on the screen."""
    kind = (2 if rgb.ndim == 3 else 3) + 8 * run_length
    bits = 8 * (rgb.shape[2] if rgb.ndim == 3 else 1)
    lying = rgb if descriptor & 0x20 else rgb[::-1]
    lying = lying[:, ::-1] if descriptor & 0x10 else lying
    if rgb.ndim == 3:
        lying = lying[:, :, [2, 1, 0, 3][: rgb.shape[2]]]
    size = rgb.shape[1], rgb.shape[0]
    header = struct.pack("<BBBHHBHHHHBB", len(name), 0, kind, 0, 0, 0, 0, 0, *size, bits, descriptor) + name
    pixels = [bytes(pixel) for pixel in lying.reshape(-1, bits // 8)]
    return header + (packets(pixels) if run_length else b"".join(pixels))


def packets(pixels: list[bytes]) -> bytes:
    """Run-length packets: runs of up to 128 equal pixels, everything else as it is."""
    out, at = b"", 0
    while at < len(pixels):
        run = 1
        while run < 128 and at + run < len(pixels) and pixels[at + run] == pixels[at]:
            run += 1
        out += bytes([0x7F + run]) + pixels[at] if run > 1 else b"\x00" + pixels[at]
        at += run
    return out


def lights_toml(names: list[str], extra: list[str] | None = None, head: str = "") -> str:
    lights = [
        f'[[light]]\ndirection = {list(direction)}\nfiles = "{name}"\n{extra[i] if extra else ""}\n'
        for i, (name, direction) in enumerate(zip(names, DIRECTIONS, strict=False))
    ]
    return head + "\n" + "\n".join(lights)


def folder_of(tmp_path: Path, suffix: str, colour: bool, dtype: type, **lights: object) -> tuple[Path, Path]:
    names = [f"{k}{suffix}" for k in range(4)]
    for k, name in enumerate(names):
        save(tmp_path / name, image_of(k, colour, dtype))
    lights_file = tmp_path / "lights.toml"
    lights_file.write_text(lights_toml(names, **lights))  # type: ignore[arg-type]
    return tmp_path, lights_file


def expected(rgb: NDArray[np.generic], intensity: object = 1.0) -> NDArray[np.float64]:
    """The protocol in float64, 65535 = white."""
    relative = rgb / np.iinfo(rgb.dtype).max / np.asarray(intensity, np.float64)
    gray = relative if rgb.ndim == 2 else relative @ [0.299, 0.587, 0.114]
    return np.minimum(gray, 1) * 65535


LOSSLESS = [
    (suffix, colour, dtype)
    for suffix in (".png", ".tiff", ".bmp", ".tga")
    for colour in (False, True)
    for dtype in (np.uint8, np.uint16)
    if dtype == np.uint8 or suffix in (".png", ".tiff")
]


@pytest.mark.parametrize(("suffix", "colour", "dtype"), LOSSLESS)
def test_every_format_gives_its_pixels(tmp_path: Path, suffix: str, colour: bool, dtype: type) -> None:
    folder, lights = folder_of(tmp_path, suffix, colour, dtype)
    assert import_images(folder, lights, tmp_path / "out.mcap") == 4
    recording = Recording(tmp_path / "out.mcap")
    frames = list(recording.frames())
    as_is = dtype == np.uint8 and not colour
    for k, frame in enumerate(frames):
        image = image_of(k, colour, dtype)
        if as_is:
            np.testing.assert_array_equal(frame.pixels, image)
        else:
            assert frame.pixels.dtype == np.uint16
            assert np.abs(frame.pixels - expected(image)).max() < 0.51
        assert (frame.light, frame.frame_id, frame.encoder_mm, frame.complete) == (k, k, 0.0, True)
    assert recording.calibration.white == (255 if as_is else 65535)


@pytest.mark.parametrize("colour", [False, True])
def test_jpeg_gives_its_pixels_as_near_as_jpeg_can(tmp_path: Path, colour: bool) -> None:
    shape = (16, 16, 3) if colour else (16, 16)
    image = np.broadcast_to(np.array([200, 90, 30], np.uint8) if colour else np.uint8(140), shape)
    for k in range(4):
        save(tmp_path / f"{k}.jpg", image)
    (tmp_path / "lights.toml").write_text(lights_toml([f"{k}.jpg" for k in range(4)]))
    import_images(tmp_path, tmp_path / "lights.toml", tmp_path / "out.mcap")
    recording = Recording(tmp_path / "out.mcap")
    frame = next(recording.frames())
    np.testing.assert_allclose(frame.pixels / recording.calibration.white, expected(image) / 65535, atol=0.01)


@pytest.mark.parametrize(("colour", "intensity"), [(True, [0.5, 1.5, 2.5]), (True, 1.7), (False, 1.7), (False, 2)])
def test_each_channel_is_divided_by_its_intensity_and_clipped(tmp_path: Path, colour: bool, intensity: object) -> None:
    folder, lights = folder_of(tmp_path, ".png", colour, np.uint8, extra=[f"intensity = {intensity}"] * 4)
    import_images(folder, lights, tmp_path / "out.mcap")
    for k, frame in enumerate(Recording(tmp_path / "out.mcap").frames()):
        assert np.abs(frame.pixels - expected(image_of(k, colour, np.uint8), intensity)).max() < 0.51


def test_alpha_is_dropped(tmp_path: Path) -> None:
    folder, lights = folder_of(tmp_path, ".png", True, np.uint8)
    for k in range(4):
        rgb = image_of(k, True, np.uint8)
        alpha = np.random.default_rng(k).integers(0, 255, (HEIGHT, WIDTH, 1), np.uint8)
        (folder / f"{k}.png").write_bytes(cv2.imencode(".png", np.dstack([rgb[..., ::-1], alpha]))[1].tobytes())
    import_images(folder, lights, tmp_path / "out.mcap")
    for k, frame in enumerate(Recording(tmp_path / "out.mcap").frames()):
        assert np.abs(frame.pixels - expected(image_of(k, True, np.uint8))).max() < 0.51


def test_calibration_is_that_of_the_lights_file(tmp_path: Path) -> None:
    folder, lights = folder_of(tmp_path, ".png", False, np.uint8, head="pitch_mm = 0.25")
    import_images(folder, lights, tmp_path / "out.mcap")
    recording = Recording(tmp_path / "out.mcap")
    calibration = recording.calibration
    unit = np.array(DIRECTIONS) / np.linalg.norm(DIRECTIONS, axis=1, keepdims=True)
    np.testing.assert_allclose(calibration.light_directions, np.repeat(unit[:, :, None], WIDTH, axis=2), atol=1e-15)
    assert not calibration.light_directions_per_row.any()
    assert calibration.dark is None
    assert (calibration.pitch_mm, calibration.transport_sign) == (0.25, 1)
    assert calibration.origin == "lights file lights.toml"
    assert recording.web_mm == pytest.approx(HEIGHT * 0.25)


def test_importing_twice_gives_the_same_frames_and_tells_progress(tmp_path: Path) -> None:
    folder, lights = folder_of(tmp_path, ".png", True, np.uint16)
    told: list[tuple[int, int]] = []
    import_images(folder, lights, tmp_path / "a.mcap", lambda done, total: told.append((done, total)))
    import_images(folder, lights, tmp_path / "b.mcap")
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    a, b = Recording(tmp_path / "a.mcap"), Recording(tmp_path / "b.mcap")
    assert a.calibration.digest == b.calibration.digest
    times = [(f.exposed_ns, f.exposure_us) for f in a.frames()]
    assert times == [(f.exposed_ns, f.exposure_us) for f in b.frames()]
    assert times == sorted(set(times))


# --- TGA


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("run_length", [False, True])
@pytest.mark.parametrize("descriptor", [0x00, 0x10, 0x20, 0x30])
def test_tga_of_every_kind(channels: int, run_length: bool, descriptor: int) -> None:
    image = np.random.default_rng(3).integers(0, 4, (7, 150, channels), np.uint8) // 3 * 50
    image[2] = 9
    image[3:5, 20:] = 11
    shown = image[:, :, 0] if channels == 1 else image
    read = decode_tga(tga_of(shown, run_length=run_length, descriptor=descriptor, name=b"an id"))
    np.testing.assert_array_equal(read, shown if channels == 1 else shown[:, :, [2, 1, 0, 3][:channels]])


def test_broken_tga_is_refused_wherever_it_is_cut() -> None:
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    for run_length in (False, True):
        whole = tga_of(image, run_length=run_length)
        for length in range(len(whole)):
            with pytest.raises(ValueError, match="TGA"):
                decode_tga(whole[:length])
    with pytest.raises(ValueError, match="type 1 with 8 bits"):
        decode_tga(bytes([0, 1, 1]) + bytes(13) + bytes([8, 0]))


# --- refusals


def refused(folder: Path, lights: Path, says: str, kind: type[FoilsightError] = ImportFolderError) -> str:
    out = lights.parent / "out.mcap"
    with pytest.raises(kind, match=says) as caught:
        import_images(folder, lights, out)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("light = [", "not TOML"),
        ("", "missing required field `light`"),
        ("light = []", "0 lights, photometric stereo needs at least three"),
        (lights_toml(["0.png", "1.png"]), "2 lights, photometric stereo needs at least three"),
        (lights_toml(["0.png", "1.png", "2.png"], ["colour = 1"] * 3), r"unknown field `colour` - at `\$.light\[0\]`"),
        (lights_toml(["0.png", "1.png", "2.png"], head="pitch = 1"), "unknown field `pitch`"),
        (lights_toml(["0.png", "1.png", "2.png"], head="pitch_mm = 0"), r"\$.pitch_mm"),
        (lights_toml(["0.png", "1.png", "2.png"], ["", "intensity = 0", ""]), r"light\[1\].intensity is 0"),
        (lights_toml(["0.png", "1.png", "2.png"], ["", "", "intensity = [1, 1, -2]"]), r"light\[2\].intensity"),
        (lights_toml(["0.png", "1.png", "2.png"], ["intensity = [1, 1]"] * 3), r"\$.light\[0\].intensity"),
        (lights_toml(["0.png", "1.png", "2.png"], ["intensity = [1, 2, 3]"] * 3), "gray and its intensity has three"),
        (lights_toml(["0.png", "1.png", "2.png"]).replace("[1.2, 0, 1.6]", "[0, 0, 0]"), r"light\[0\].direction"),
        (lights_toml(["0.png", "1.png", "2.png"]).replace("[1.2, 0, 1.6]", "[nan, 0, 1]"), r"light\[0\].direction"),
        (lights_toml(["0.png", "1.png", "2.png"]).replace("[1.2, 0, 1.6]", "[1, 2]"), r"light\[0\].direction"),
        (lights_toml(["0.png", "1.png", "2.png"]).replace('"1.png"', '["1.png", "2.png"]'), "names 2 images"),
        (lights_toml(["0.png", "1.png", "2.png"]).replace('"1.png"', "[]"), "names 0 images"),
        (lights_toml(["0.png", "no.png", "2.png"]), r"no.png: cannot be read \(No such file"),
        (lights_toml(["no.png", "1.png", "2.png"]), r"no.png: cannot be read \(No such file"),
        (lights_toml(["0.png", "lights.toml", "2.png"]), "lights.toml: not an image"),
        (lights_toml(["0.png", "1.png", "cut.png"]), "cut.png: not an image"),
        (lights_toml(["0.png", "1.png", "empty.png"]), "empty.png: not an image"),
        (lights_toml(["0.png", "float.tiff", "2.png"]), "float32"),
        (lights_toml(["0.png", "1.png", "larger.png"]), "larger.png: 12 x 6 pixels, 8-bit gray, the first image"),
        (lights_toml(["0.png", "deep.png", "2.png"]), "16-bit gray, the first image is 11 x 6 pixels, 8-bit gray"),
        (lights_toml(["0.png", "colour.png", "2.png"]), "8-bit colour, the first image"),
        (lights_toml(["0.png", "1.png", "2.png"], ["", "intensity = 1e-320", ""]), r"light\[1\].intensity"),
        (lights_toml(["0.png", "1.png", "2.png"], ["", "intensity = 1e300", ""]), r"light\[1\].intensity"),
        (lights_toml(["0.png", "1.png", "2.png"]).replace("[1.2, 0, 1.6]", "[1e300, 0, 1]"), r"light\[0\].direction"),
        (lights_toml(["0.png", "1.png", "2.png"]).replace("[1.2, 0, 1.6]", "[0, 0, 1e-310]"), r"light\[0\].direction"),
        (lights_toml(["0.png", "\\u0000", "2.png"]), r"light\[1\].files is no name"),
        (lights_toml(["0.png", "a\\nb", "2.png"]), r"light\[1\].files is no name"),
        (lights_toml(["0.png", "", "2.png"]), r"light\[1\].files is no name"),
        (lights_toml(["0.png", "/dev/zero", "2.png"]), "/dev/zero: cannot be read"),
    ],
)
def test_what_cannot_be_imported_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    folder, lights = folder_of(tmp_path, ".png", False, np.uint8)
    save(folder / "larger.png", np.zeros((6, 12), np.uint8))
    save(folder / "deep.png", image_of(0, False, np.uint16))
    save(folder / "colour.png", image_of(0, True, np.uint8))
    save(folder / "float.tiff", np.zeros((6, 11), np.float32))
    (folder / "cut.png").write_bytes((folder / "2.png").read_bytes()[:-30])
    (folder / "empty.png").write_bytes(b"")
    lights.write_text(text)
    line = refused(folder, lights, says)
    assert line.startswith((str(tmp_path), "/dev/zero"))
    assert line.isprintable()


def test_missing_folder_and_lights_file(tmp_path: Path) -> None:
    folder, lights = folder_of(tmp_path, ".png", False, np.uint8)
    refused(tmp_path / "nowhere", lights, "no such folder of images")
    refused(folder, tmp_path / "nowhere.toml", "cannot be read")


def test_a_pitch_that_no_camera_has_is_refused_with_the_file(tmp_path: Path) -> None:
    folder, lights = folder_of(tmp_path, ".png", False, np.uint8)
    lights.write_text(f"pitch_mm = 1e9\n{lights.read_text()}")
    assert refused(folder, lights, "pitch", CalibrationError).startswith(str(lights))


@pytest.mark.parametrize("spread", [0, 0.1])
def test_lights_in_one_plane_cannot_be_solved(tmp_path: Path, spread: float) -> None:
    folder, lights = folder_of(tmp_path, ".png", False, np.uint8)
    lights.write_text("\n".join(f'[[light]]\ndirection = [{spread * k}, 0, 1]\nfiles = "{k}.png"' for k in range(4)))
    assert refused(folder, lights, "lights lie in one plane", CalibrationError).startswith(str(lights))


def test_an_existing_recording_is_left_alone(tmp_path: Path) -> None:
    folder, lights = folder_of(tmp_path, ".png", False, np.uint8)
    (tmp_path / "out.mcap").write_bytes(b"dear")
    with pytest.raises(RecordingError, match="exists already"):
        import_images(folder, lights, tmp_path / "out.mcap")
    assert (tmp_path / "out.mcap").read_bytes() == b"dear"


def test_an_interrupted_import_leaves_nothing(tmp_path: Path) -> None:
    folder, lights = folder_of(tmp_path, ".png", False, np.uint8)

    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_images(folder, lights, tmp_path / "out.mcap", interrupt)
    assert not (tmp_path / "out.mcap").exists()


# --- photographs


@pytest.fixture
def data() -> Path:
    if "FOILSIGHT_DATA" not in os.environ:
        pytest.skip("FOILSIGHT_DATA is unset: no photographs to import")
    return Path(os.environ["FOILSIGHT_DATA"])


@pytest.mark.data
def test_diligent_ball_reproduces_least_squares(data: Path, tmp_path: Path) -> None:
    from scipy.io import loadmat

    ball = data / "diligent_ball"
    directions = np.loadtxt(ball / "light_directions.txt")
    intensities = np.loadtxt(ball / "light_intensities.txt")
    lights = tmp_path / "lights.toml"
    lights.write_text(
        "".join(
            f'[[light]]\ndirection = {directions[n - 1].tolist()}\nfiles = "{n:03}.png"\n'
            f"intensity = {intensities[n - 1].tolist()}\n"
            for n in (80, 32, 25, 73)
        )
    )
    import_images(ball, lights, tmp_path / "ball.mcap")
    recording = Recording(tmp_path / "ball.mcap")
    mask = cv2.imread(str(ball / "mask.png"), cv2.IMREAD_GRAYSCALE) > 0
    brightness = np.stack([f.pixels[mask] / recording.calibration.white for f in recording.frames()])
    normals = np.linalg.pinv(recording.calibration.light_directions[:, :, 0]) @ brightness
    normals /= np.linalg.norm(normals, axis=0)
    truth = loadmat(ball / "Normal_gt.mat")["Normal_gt"][mask].T
    angles = np.degrees(np.arccos(np.clip((normals * truth).sum(axis=0), -1, 1)))
    assert angles.mean() == pytest.approx(4.52, abs=0.03)


@pytest.mark.data
def test_uw_chrome_tga_imports(data: Path, tmp_path: Path) -> None:
    chrome = data / "uw_chrome" / "chrome"
    directions = np.loadtxt(data / "uw_chrome" / "lights.txt", skiprows=1)
    lights = tmp_path / "lights.toml"
    lights.write_text(
        "".join(
            f'[[light]]\ndirection = {direction.tolist()}\nfiles = "chrome.{k}.tga"\n'
            for k, direction in enumerate(directions)
        )
    )
    assert import_images(chrome, lights, tmp_path / "chrome.mcap") == 12
    recording = Recording(tmp_path / "chrome.mcap")
    mask = decode_tga((chrome / "chrome.mask.tga").read_bytes())[:, :, 0] > 127
    rows, columns = np.nonzero(mask)
    slope = []
    for frame, direction in zip(recording.frames(), directions, strict=True):
        assert frame.pixels.shape == (340, 512)
        brightest = np.argwhere((frame.pixels >= 0.9 * frame.pixels[mask].max()) & mask).mean(axis=0)
        slope.append((brightest - [rows.mean(), columns.mean()]) @ [-direction[1], direction[0]])
    assert min(slope) > 0, "on a mirror ball every highlight lies on its light's side: rows down, y up"
