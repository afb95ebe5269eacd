"""`foilsight calibrate flat | linearity | gloss | scale`. Imports nothing heavy until a command runs."""

from pathlib import Path
from typing import TYPE_CHECKING

from calibration.writing import base_of, check_alike, write

if TYPE_CHECKING:
    from edge.core.types import F32


def flat(recording: Path, *, dark: Path, out: Path, lights: Path | None = None, base: Path | None = None) -> int:
    """Take dark and flat field from a recording of metres of good web: stains and single defects do no harm.

    Parameters
    ----------
    recording
        Good web running by (MCAP), as `foilsight record` writes it.
    dark
        Recording (MCAP) with the lamps off and everything else, stray light too, as it runs.
    out
        Calibration to write.
    lights
        Lights file (TOML) with the directions; left out, they are those of the calibration.
    base
        Calibration to start from; left out, the one in the recording.
    """
    import numpy as np

    from calibration.response import fit_dark, fit_flat, with_flat
    from edge.core.errors import CalibrationError
    from edge.recording.lights_file import load_lights
    from edge.recording.reader import Recording
    from edge.service.progress import count_progress

    source, unlit = Recording(recording), Recording(dark)
    start = base_of(base, source)
    directions = None
    if lights is not None:
        directions = np.array([light.direction for light in load_lights(lights).light], np.float64)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        if len(directions) != start.lights:
            raise CalibrationError(f"{lights} has {len(directions)} lights, {recording} has {start.lights}")
    check_alike(start, unlit, dark)
    with count_progress("flat field") as at:
        total = 2 * (source.frame_count or 0)
        field = fit_flat(source, fit_dark(unlit, str(dark)), str(recording), lambda done: at(done, total))
    sources = [recording, dark] if lights is None else [recording, dark, lights]
    scores = {
        "error_percent": field.error_percent,
        "spread_percent": field.spread_percent,
        "trimmed_percent": field.trimmed_percent,
        "web_mm": field.web_mm,
        "frames": field.frames,
    }
    write(with_flat(start, field, directions), out, "flat", sources, scores)
    relative = ", ".join(f"{intensity:.3f}" for intensity in field.intensities)
    print(f"lamps relative to their mean: {relative}; a pixel within {field.error_percent:.2f} %")
    print(f"{out}: dark and flat field of {start.lights} lights from {field.web_mm / 1000:.2f} m of web")
    return 0


def linearity(recordings: list[Path], *, out: Path | None = None, base: Path | None = None) -> int:
    """See how straight the camera's counts follow the exposure time; exit code 1 beyond 1 % of full scale.

    Parameters
    ----------
    recordings
        Recordings (MCAP) of the flat target lying still, each at another exposure from short to nearly saturated,
        the lamps on for as long.
    out
        Calibration to write with what was found; left out, none is.
    base
        Calibration to start from; left out, the one in the first recording.
    """
    from calibration.response import MAX_NONLINEARITY_PERCENT, fit_linearity
    from edge.recording.reader import Recording
    from edge.service.progress import count_progress

    sources = [Recording(path) for path in recordings]
    start = base_of(base, sources[0])
    for path, source in zip(recordings, sources, strict=True):
        check_alike(start, source, path)
    with count_progress("reading") as at:
        total = sum(source.frame_count or 0 for source in sources)
        found = fit_linearity(sources, lambda done: at(done, total))
    print("exposure us   " + "".join(f"{f'light {light}':>20}" for light in range(len(found.counts))))
    for step, exposure_us in enumerate(found.exposures_us):
        pairs = zip(found.counts[:, step], found.deviation_percent[:, step], strict=True)
        print(f"{exposure_us:11g}   " + "".join(f"{count:11.1f} {off:+7.3f}%" for count, off in pairs))
    if out is not None:
        write(start, out, "linearity", recordings, {"deviation_percent": found.worst_percent})
    straight = found.worst_percent <= MAX_NONLINEARITY_PERCENT
    verdict = "straight" if straight else f"bent: more than {MAX_NONLINEARITY_PERCENT:g} %"
    print(f"counts are within {found.worst_percent:.3f} % of full scale of a line: {verdict}")
    return 0 if straight else 1


def gloss(
    recording: Path | None = None,
    *,
    out: Path,
    height_um: float | None = None,
    gain: float | None = None,
    base: Path | None = None,
    picture: Path | None = None,
) -> int:
    """Take from slopes what gloss adds to them: by a bump or groove of known height on the coating itself, which the
    web carries by, or by a figure that is known.

    Parameters
    ----------
    recording
        The relief running by (MCAP), some centimetres of web: flanks of 20 degrees at most, well above the web's waves.
    out
        Calibration to write.
    height_um
        How high the relief is, below 0 for the depth of a groove.
    gain
        How many times as steep slopes look as they are, where that is known; no recording is needed.
    base
        Calibration to start from; left out, the one in the recording.
    picture
        PNG of what stands out as it was seen; left out, a .png beside the calibration.
    """
    from dataclasses import replace

    from calibration.gloss import Relief, fit_slope_gain
    from edge.core.calibration import Calibration
    from edge.core.errors import CalibrationError
    from edge.recording.reader import Recording
    from edge.service.options import require
    from edge.service.progress import count_progress

    if recording is None:
        require(gain is not None and gain > 0, "--gain", "above 0, or give a recording with --height-um")
        require(base is not None, "--base", "given with --gain: the calibration to start from")
        assert base is not None and gain is not None
        write(replace(Calibration.load(base), slope_gain=gain), out, "gloss", [], {"given_gain": gain})
        print(f"{out}: slopes are taken to look {gain:g} times as steep as they are")
        return 0
    require(gain is None, "--gain", "left out where there is a recording")
    require(height_um is not None and height_um != 0, "--height-um", "given with a recording, and not 0")
    source = Recording(recording)
    start, relief, seen = base_of(base, source), Relief(), picture or out.with_suffix(".png")
    try:
        with count_progress("relief") as at:
            total = source.frame_count or 0
            found = fit_slope_gain(source, start, height_um or 0.0, relief, str(recording), lambda n: at(n, total))
    except CalibrationError as error:
        relief.draw(seen, start.pitch_mm or 1.0)
        raise CalibrationError(f"{error}; what was seen is in {seen}") from error
    relief.draw(seen, start.pitch_mm or 1.0)
    scores = {"error": found.error, "measured_um": found.measured_um, "steepest_deg": found.steepest_deg}
    write(replace(start, slope_gain=found.gain), out, "gloss", [recording], scores)
    print(
        f"seen {found.measured_um:+.1f} um high instead of {height_um:+g}: {found.gain:.3f} ± {found.error:.3f} times"
    )
    print(f"{out}: slopes are made as much gentler; {seen} shows the relief")
    return 0


def scale(
    target: Path,
    *,
    spacing_mm: float,
    out: Path,
    travel: Path | None = None,
    base: Path | None = None,
    picture: Path | None = None,
) -> int:
    """Measure a sheet with a square grid of dark dots: the pitch from one lying still at the height of the web; encoder
    scale, transport angle and sign from one that the web carries through the field.

    Parameters
    ----------
    target
        The sheet lying still: a photograph, or a recording (MCAP).
    spacing_mm
        Distance of the dots from middle to middle.
    out
        Calibration to write.
    travel
        Recording (MCAP) in which the web carries the sheet along; left out, the pitch alone is found.
    base
        Calibration to start from; left out, the one in the recording.
    picture
        PNG of the dots as they were seen; left out, a .png beside the calibration.
    """
    from calibration.scale import Sight, complete_images, fit_pitch, fit_travel, with_scale
    from edge.core.calibration import Calibration
    from edge.core.errors import CalibrationError
    from edge.recording.reader import Recording
    from edge.service.options import require
    from edge.service.progress import count_progress

    require(0 < spacing_mm < 1e3, "--spacing-mm", "above 0 and below 1000")
    still = Recording(target) if target.suffix.lower() == ".mcap" else None
    moving = None if travel is None else Recording(travel)
    recording = moving or still
    if base is not None:
        start = Calibration.load(base)
    elif recording is not None:
        start = recording.calibration
    else:
        raise CalibrationError(f"{target} is a photograph: say with --base which calibration is to have its pitch")
    sight = Sight(start.white)
    seen = picture or out.with_suffix(".png")
    found = None
    try:
        shots = [_photograph(target, start.white)] if still is None else complete_images(still)
        pitch = fit_pitch(shots, spacing_mm, sight, str(target))
        sight.draw(seen)
        if moving is not None:
            with count_progress("following the target") as at:
                total = moving.frame_count or 0
                found = fit_travel(moving.frames(), pitch, spacing_mm, sight, str(travel), lambda n: at(n, total))
    except CalibrationError as error:
        sight.draw(seen)
        raise CalibrationError(f"{error}; what was seen is in {seen}") from error
    scores = {"residual_px": pitch.residual_px, "dots": pitch.dots}
    print(f"pitch {pitch.pitch_mm:.7g} mm from {pitch.dots} dots, each within {pitch.residual_px:.3f} px of its place")
    if found is not None:
        scores |= {
            "angle_error_deg": found.angle_error_deg,
            "encoder_error_percent": 100 * found.scale_error,
            "travel_mm": found.travel_mm,
        }
        way = "smaller" if found.transport_sign > 0 else "larger"
        print(
            f"the web runs towards {way} image rows (transport_sign {found.transport_sign:+d}), leaning towards larger "
            f"columns by {found.transport_angle_deg:.4f} ± {found.angle_error_deg:.4f} degree"
        )
        print(f"a millimetre of the encoder is {found.encoder_scale:.6f} ± {found.scale_error:.6f} mm of web")
    sources = [target] if travel is None else [target, travel]
    write(with_scale(start, pitch, found), out, "scale", sources, scores)
    print(f"{out}: written; {seen} shows the dots")
    return 0


def _photograph(path: Path, white: float) -> "F32":
    """A photograph in the camera's counts; one that goes beyond them is taken to fill its 8 or 16 bits."""
    from edge.recording.image_file import read_gray

    image = read_gray(path)
    brightest = float(image.max())
    full = white if brightest <= white else 255.0 if brightest <= 255 else 65535.0
    return image * (white / full)
