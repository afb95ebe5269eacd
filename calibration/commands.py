"""`foilsight calibrate ...`. Imports nothing heavy until a command runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from edge.core.calibration import Calibration
    from edge.core.types import F32
    from edge.recording.reader import Recording


def lights(
    *images: Path,
    out: Path,
    machine: Path | None = None,
    ball_mm: float | None = None,
    places: int | None = None,
    bar_mm: float | None = None,
    matte: Annotated[bool, Parameter(negative="")] = False,
    picture: Path | None = None,
) -> int:
    """Find out where light comes from: of far lights from photographs of a ball, of line lights from a mirror ball that
    stood on the web in several places, or from the machine's drawing.

    Balls and highlights are found by themselves; the camera looks straight down from far above. Of far lights a lights
    file is written, with the names of the ball's photographs: put in those to import. Of line lights a calibration is
    written, which `calibrate flat` completes.

    Parameters
    ----------
    images
        Photographs of the ball in the order of the lights: the same view, one light on in each. Of line lights: all of
        one place, then all of the next; the web is lit as at work, saturated highlights do no harm.
    out
        Lights file (TOML) as `foilsight import` reads it, or, of line lights, calibration to write.
    machine
        Drawing (TOML) of line lights: width_px, height_px, pitch_mm, transport_sign and white of the camera, a [[bar]]
        for each light with azimuth_deg, polar_deg, distance_mm, length_mm. With photographs no [[bar]] is needed: it
        says which frame, in the middle of what was photographed, the line has; left out, all of it.
    ball_mm
        Diameter of a mirror ball: the lights are line lights.
    places
        In how many places the ball stood: two or more, far apart in the field; four are better.
    bar_mm
        Length of the bars, where it is known: saturated highlights are a little too long.
    matte
        The ball is matte: directions are those that shade it so.
    picture
        PNG of the ball and the highlights as they were seen; left out, a .png beside `out`.
    """
    from calibration.lights import calibrate_far_lights, line_lights_as_drawn, line_lights_by_ball
    from edge.service.options import require

    seen = picture or out.with_suffix(".png")
    require(bool(images) or machine is not None, "IMAGES", "photographs of a ball, or --machine a drawing")
    require(ball_mm is None or (ball_mm > 0 and not matte), "--ball-mm", "above 0, and of a mirror ball")
    require(bar_mm is None or bar_mm > 0, "--bar-mm", "above 0")
    if ball_mm is not None:
        require(places is not None and places >= 2, "--places", "with --ball-mm, 2 or more")
        drawing = [] if machine is None else [machine]
        start, scores = line_lights_by_ball(images, places or 0, ball_mm, bar_mm, machine, seen)
        _write(start, out, "lights", [*images, *drawing], scores)
    elif machine is not None:
        require(not images, "--ball-mm", "with --machine and photographs, the ball's diameter")
        _write(line_lights_as_drawn(machine), out, "lights", [machine], {})
    else:
        calibrate_far_lights(images, out, seen, matte=matte)
        return 0
    print(f"{out}: line lights without flat field, `foilsight calibrate flat --base {out}` adds it")
    return 0


def order(
    *images: Path,
    lights: Path,
    y_up: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """See whether photographs were taken under the lights they are said to be of; exit code 1 where another order of
    the lights explains them better.

    Every order is held against one still object with some shape to it, by how well the lights agree and how well its
    slopes make a surface. Only a half-turn may look the same: then the object is taken to bulge towards the camera.

    Parameters
    ----------
    images
        Photographs of the object, three to six, in the order of the lights.
    lights
        Lights file (TOML) with their directions and, where they differ, intensities; the files it names are not read.
    y_up
        The directions are of a frame whose y points up in the image, as in most research files.
    json
        Print the scores of all orders as one JSON object and nothing else.
    """
    import msgspec
    import numpy as np

    from calibration.light_order import check_order, order_table
    from edge.recording.image_file import GRAY_FROM_BGR, read_gray
    from edge.recording.lights_file import load_lights
    from edge.service.options import require

    described = load_lights(lights).light
    require(len(images) == len(described), "IMAGES", f"{len(described)}, one a light of {lights.name}")
    directions = np.array([light.direction for light in described], np.float64)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    if y_up:
        directions[:, 1] *= -1
    intensities = [np.broadcast_to(np.asarray(light.intensity or 1.0), 3)[::-1] @ GRAY_FROM_BGR for light in described]
    found = check_order([read_gray(path) for path in images], directions * np.array(intensities)[:, None])
    print(msgspec.json.encode(found).decode() if json else order_table(found))
    return 0 if found.holds else 1


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
    start = _base(base, source)
    directions = None
    if lights is not None:
        directions = np.array([light.direction for light in load_lights(lights).light], np.float64)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        if len(directions) != start.lights:
            raise CalibrationError(f"{lights} has {len(directions)} lights, {recording} has {start.lights}")
    _check_alike(start, unlit, dark)
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
    _write(with_flat(start, field, directions), out, "flat", sources, scores)
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
    start = _base(base, sources[0])
    for path, source in zip(recordings, sources, strict=True):
        _check_alike(start, source, path)
    with count_progress("reading") as at:
        total = sum(source.frame_count or 0 for source in sources)
        found = fit_linearity(sources, lambda done: at(done, total))
    print("exposure us   " + "".join(f"{f'light {light}':>20}" for light in range(len(found.counts))))
    for step, exposure_us in enumerate(found.exposures_us):
        pairs = zip(found.counts[:, step], found.deviation_percent[:, step], strict=True)
        print(f"{exposure_us:11g}   " + "".join(f"{count:11.1f} {off:+7.3f}%" for count, off in pairs))
    if out is not None:
        _write(start, out, "linearity", recordings, {"deviation_percent": found.worst_percent})
    straight = found.worst_percent <= MAX_NONLINEARITY_PERCENT
    verdict = "straight" if straight else f"bent: more than {MAX_NONLINEARITY_PERCENT:g} %"
    print(f"counts are within {found.worst_percent:.3f} % of full scale of a line: {verdict}")
    return 0 if straight else 1


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
    _write(with_scale(start, pitch, found), out, "scale", sources, scores)
    print(f"{out}: written; {seen} shows the dots")
    return 0


def show(calibration: Path, *, out: Path | None = None) -> int:
    """Write a page that shows a calibration: where the lights stand, their fields, and what noise does to normals.

    Parameters
    ----------
    calibration
        Calibration file, or a recording (MCAP) with one in it.
    out
        Page to write (HTML); left out, beside the calibration.
    """
    from calibration.show import write_page
    from edge.core.calibration import Calibration
    from edge.recording.reader import Recording

    is_recording = calibration.suffix.lower() == ".mcap"
    shown = Recording(calibration).calibration if is_recording else Calibration.load(calibration)
    page = out or calibration.with_suffix(".html")
    quality = write_page(page, shown, calibration.name)
    for doubt in quality.doubts:
        print(f"doubtful: {doubt}")
    print(f"{page}: {shown.lights} lights; 1 % of noise turns normals by up to {quality.error_deg.max():.2f} degree")
    return 0


def _photograph(path: Path, white: float) -> "F32":
    """A photograph in the camera's counts; one that goes beyond them is taken to fill its 8 or 16 bits."""
    from edge.recording.image_file import read_gray

    image = read_gray(path)
    brightest = float(image.max())
    full = white if brightest <= white else 255.0 if brightest <= 255 else 65535.0
    return image * (white / full)


def _base(base: Path | None, recording: "Recording") -> "Calibration":
    """The calibration to start from. Raises CalibrationError where it is not the recording's camera's."""
    from edge.core.calibration import Calibration

    if base is None:
        return recording.calibration
    start = Calibration.load(base)
    _check_alike(start, recording, base)
    return start


def _check_alike(start: "Calibration", recording: "Recording", path: Path) -> None:
    from edge.core.errors import CalibrationError

    def size(one: "Calibration") -> str:
        return f"{one.lights} lights and {one.width} x {one.height} pixels of white {one.white:g}"

    if size(start) != size(recording.calibration):
        raise CalibrationError(
            f"{path}: not of the same camera, {size(recording.calibration)} do not go with {size(start)}"
        )


def _write(start: "Calibration", out: Path, what: str, sources: list[Path], scores: "dict[str, float]") -> None:
    """Write a calibration with the story of its latest fit, in place of what was said of an earlier one."""
    from dataclasses import replace

    from edge.core.calibration import Fit
    from edge.core.clock import utc_now
    from edge.core.errors import CalibrationError

    fit = Fit(what, utc_now(), [path.name for path in sources], scores)
    told = replace(start, fits=(*(each for each in start.fits if each.what != what), fit))
    try:
        told.save(out)
    except OSError as error:
        raise CalibrationError(f"{out}: cannot be written ({error.strerror})") from error
