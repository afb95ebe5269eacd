"""From photographs or a drawing to the directions of the lights: what `foilsight calibrate lights` does, and says."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from calibration.ball import find_ball, find_ball_on_web
from calibration.line_lights import FittedBar, Machine, drawn_lights, fit_bar, load_machine, place_of
from calibration.matte_ball import light_from_shading
from calibration.mirror_ball import Arc, find_arc, find_highlight, light_directions
from calibration.pictures import Sight, draw_sights
from edge.core.calibration import Calibration
from edge.core.errors import CalibrationError
from edge.core.line_light import LineLight
from edge.core.types import F32
from edge.recording.image_file import read_gray, read_image
from edge.recording.lights_file import write_directions


def calibrate_far_lights(images: Sequence[Path], out: Path, picture: Path, *, matte: bool) -> None:
    """Write a lights file of far lights seen in one ball, a mirror or matte, one photograph a light.

    Raises CalibrationError, after drawing what was seen, where the photographs do not tell the directions.
    """
    if len(images) < 3:
        raise CalibrationError(f"{len(images)} photographs of the ball: photometric stereo needs at least three lights")
    shots = _read_alike(images)
    sight = Sight(shots)
    try:
        ball = sight.ball = find_ball(shots)
        if matte:
            shadings = [
                light_from_shading(shot, ball, _white(path), path.name)
                for path, shot in zip(images, shots, strict=True)
            ]
            directions = np.stack([shading.direction for shading in shadings])
            sight.lights = list(np.array([[ball.x, ball.y]]) + ball.radius * directions[:, None, :2])
        else:
            highlights = []
            for path, shot in zip(images, shots, strict=True):
                highlights.append(find_highlight(shot, ball, path.name))
                sight.lights.append(np.array([[highlights[-1].x, highlights[-1].y]]))
            directions = light_directions(highlights, ball)
    except CalibrationError as error:
        draw_sights(picture, [sight])
        raise CalibrationError(f"{error}; what was seen is in {picture}") from error
    draw_sights(picture, [sight])
    write_directions(out, directions, [path.name for path in images])
    print(
        f"ball at ({ball.x:.1f}, {ball.y:.1f}), radius {ball.radius:.1f} px, outline within {ball.residual_px:.2f} px"
    )
    if matte:
        for light, shading in enumerate(shadings):
            print(f"light {light}: shading within {100 * shading.residual:.1f} %, over {100 * shading.used:.0f} %")
    print(f"{out}: {len(images)} light directions; {picture} shows what they were read from")


def line_lights_as_drawn(path: Path) -> Calibration:
    """The calibration, without flat field yet, of a machine's drawing (TOML). Raises CalibrationError."""
    machine = load_machine(path)
    lights = drawn_lights(machine, path)
    _tell(lights)
    return machine.calibration(lights, f"line lights as {path.name} has them")


def line_lights_by_ball(
    images: Sequence[Path], places: int, ball_mm: float, bar_mm: float | None, machine_file: Path | None, picture: Path
) -> tuple[Calibration, dict[str, float]]:
    """The calibration, without flat field yet, by a mirror ball of diameter `ball_mm` that stood on the web in so many
    places, photographed in each under every light in turn; and how well the bars fit.

    Without a machine file, frames are those photographed and the ball says the pitch. Raises CalibrationError, after
    drawing what was seen, where the photographs do not tell where the bars are.
    """
    lights = len(images) // places
    if lights < 3 or lights * places != len(images):
        raise CalibrationError(
            f"{len(images)} photographs of {places} places: each must be photographed under every light, three or more"
        )
    shots = _read_alike(images)
    machine = None if machine_file is None else load_machine(machine_file)
    height, width = shots[0].shape
    if machine is not None and (machine.width_px > width or machine.height_px > height):
        raise CalibrationError(
            f"{images[0]} has {width} x {height} pixels, fewer than {machine_file} with {machine.width_px} x "
            f"{machine.height_px}: photographs must show the whole field"
        )
    sights = [Sight(shots[lights * place : lights * (place + 1)]) for place in range(places)]
    names = [path.name for path in images]
    try:
        arcs = [
            _look(sight, names[lights * place :], None if machine is None else ball_mm / 2 / machine.pitch_mm)
            for place, sight in enumerate(sights)
        ]
        machine = machine or _machine_of(sights, ball_mm, _white(images[0]))
        bars = _bars(sights, arcs, machine, bar_mm)
    except CalibrationError as error:
        draw_sights(picture, sights)
        raise CalibrationError(f"{error}; what was seen is in {picture}") from error
    draw_sights(picture, sights)
    _tell([bar.light for bar in bars])
    scores = {
        "residual_deg": max(bar.residual_deg for bar in bars),
        "uncertainty_deg": max(bar.uncertainty_deg for bar in bars),
    }
    print(
        f"arcs within {scores['residual_deg']:.2f} degrees of the bars, light directions within "
        f"{scores['uncertainty_deg']:.2f} over the field; {picture} shows what they were read from"
    )
    origin = f"line lights by a mirror ball in {places} places"
    return machine.calibration([bar.light for bar in bars], origin), scores


def _look(sight: Sight, names: Sequence[str], radius_px: float | None) -> list[Arc]:
    """Ball and arcs of one place, noted in `sight` as far as they are found."""
    try:
        ball = sight.ball = find_ball_on_web(sight.images, radius_px)
    except CalibrationError as error:
        raise CalibrationError(f"{names[0]} and on: {error}") from error
    arcs = []
    for shot, name in zip(sight.images, names, strict=False):
        arcs.append(find_arc(shot, ball, name))
        sight.lights.append(arcs[-1].points)
    return arcs


def _machine_of(sights: Sequence[Sight], ball_mm: float, white: float) -> Machine:
    """The camera that took the photographs; the ball says the pitch."""
    height, width = sights[0].images[0].shape
    radius_px = float(np.mean([sight.ball.radius for sight in sights if sight.ball is not None]))
    return Machine(width_px=width, height_px=height, pitch_mm=ball_mm / 2 / radius_px, white=white)


def _bars(
    sights: Sequence[Sight], arcs: Sequence[list[Arc]], machine: Machine, bar_mm: float | None
) -> list[FittedBar]:
    height, width = sights[0].images[0].shape
    centre_px = (width - 1) / 2, (height - 1) / 2
    places = [
        place_of(sight.ball, seen, machine.pitch_mm, centre_px)
        for sight, seen in zip(sights, arcs, strict=True)
        if sight.ball is not None
    ]
    return [fit_bar(places, index, machine, bar_mm) for index in range(len(arcs[0]))]


def _tell(lights: Sequence[LineLight]) -> None:
    for index, light in enumerate(lights):
        print(
            f"light {index}: azimuth {light.azimuth_deg:.1f}, polar angle {light.polar_deg:.1f} degrees, "
            f"{light.distance_mm:.0f} mm away, {light.length_mm:.0f} mm long, turned {light.turn_deg:.1f}, "
            f"tilted {light.tilt_deg:.1f} degrees"
        )


def _read_alike(images: Sequence[Path]) -> list[F32]:
    shots = [read_gray(path) for path in images]
    for path, shot in zip(images, shots, strict=True):
        if shot.shape != shots[0].shape:
            raise CalibrationError(f"{path} is of another size than {images[0]}: all must show the same view")
    return shots


def _white(path: Path) -> float:
    return float(np.iinfo(read_image(path).dtype).max)
