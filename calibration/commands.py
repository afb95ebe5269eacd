"""`foilsight calibrate lights | order | show`. Imports nothing heavy until a command runs."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from calibration.writing import write


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
        In how many places the ball stood: two or more, far apart in the field; four where `bar_mm` is not known.
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
        write(start, out, "lights", [*images, *drawing], scores)
    elif machine is not None:
        require(not images, "--ball-mm", "with --machine and photographs, the ball's diameter")
        write(line_lights_as_drawn(machine), out, "lights", [machine], {})
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
