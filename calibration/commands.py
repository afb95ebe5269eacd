"""`foilsight calibrate ...`. Imports nothing heavy until a command runs."""

from pathlib import Path


def lights(images: list[Path], *, out: Path, picture: Path | None = None) -> int:
    """Find light directions from photographs of a mirror ball, one for each light, and write them as a lights file.

    The ball and its highlights are found by themselves; distant lights and a camera far above the ball are assumed.
    The file names the ball's photographs: put in the names of those to import.

    Parameters
    ----------
    images
        Photographs of the ball in the order of the lights: the same view, one light on in each.
    out
        Lights file to write (TOML), as `foilsight import` reads it.
    picture
        PNG of the ball and the highlights as they were seen; left out, a .png beside the lights file.
    """
    from calibration.ball import find_ball
    from calibration.mirror_ball import find_highlight, light_directions
    from calibration.pictures import draw_ball
    from edge.core.errors import CalibrationError
    from edge.recording.image_file import read_gray
    from edge.recording.lights_file import write_directions

    if len(images) < 3:
        raise CalibrationError(f"{len(images)} photographs of the ball: photometric stereo needs at least three lights")
    shots = [read_gray(path) for path in images]
    for path, shot in zip(images, shots, strict=True):
        if shot.shape != shots[0].shape:
            raise CalibrationError(f"{path} is of another size than {images[0]}: all must show the same view")
    seen = picture or out.with_suffix(".png")
    ball = None
    highlights = []
    try:
        ball = find_ball(shots)
        for path, shot in zip(images, shots, strict=True):
            highlights.append(find_highlight(shot, ball, path.name))
    except CalibrationError as error:
        draw_ball(seen, shots, ball, highlights)
        raise CalibrationError(f"{error}; what was seen is in {seen}") from error
    draw_ball(seen, shots, ball, highlights)
    directions = light_directions(highlights, ball)
    write_directions(out, directions, [path.name for path in images])
    print(
        f"ball at ({ball.x:.1f}, {ball.y:.1f}), radius {ball.radius:.1f} px, outline within {ball.residual_px:.2f} px"
    )
    print(f"{out}: {len(images)} light directions; {seen} shows what they were read from")
    return 0
