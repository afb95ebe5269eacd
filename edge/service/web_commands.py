"""`foilsight replay | simulate | import | recover | listen | schema`. Nothing heavy is imported until one runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edge.core.config import load_config
from edge.service.answering import EXIT_DONE, EXIT_NOT_ALL_INSPECTED, print_json
from edge.service.options import ConfigFile, Json, RequireGpu, planes_of, rate_of, require, settings_of

if TYPE_CHECKING:
    from edge.core.types import FrameSource
    from edge.service.gallery import Truth


def replay(
    recording: Path | None = None,
    *,
    config: ConfigFile = None,
    report: Path = Path("foilsight-report"),
    rate: str = "max",
    keep: str = "",
    require_gpu: RequireGpu = False,
    json: Json = False,
) -> int:
    """Inspect a recorded web and leave a report; without a recording, a short rendered one.

    Parameters
    ----------
    recording
        MCAP file written by `simulate` or `import`.
    config
        Configuration (TOML); its calibration replaces the recording's.
    report
        Folder for the report: open its report.html.
    rate
        `max`, `realtime`, or a number: how many times as fast as it was recorded.
    keep
        Planes to write into the report folder, of `surface,classes`.
    require_gpu
        End with an error rather than run on the processor.
    json
        Print the report as one JSON object and nothing else.
    """
    from edge.service.replay import ReplayOptions
    from edge.service.replay import replay as run
    from edge.service.report import print_report

    settings = settings_of(config, require_gpu)
    options = ReplayOptions(rate=rate_of(rate), keep=planes_of(keep), quiet=json)
    source: FrameSource
    truth: Truth | None
    notes = []
    if recording is None:
        from edge.service.simulate import demonstration

        source = demonstration()
        truth, roll = source.web.classes, settings.roll
        name = f"rendered web, seed {source.web.seed}"
    else:
        from edge.recording.reader import Recording

        source = Recording(recording)
        truth = source.truth_rows if source.has_truth else None
        name, roll = recording.name, settings.roll or source.roll
        if source.torn:
            notes.append("the recording is torn: what came after its last whole frame is lost")
    result = run(source, name, roll, settings, report, options, truth, notes)
    if json:
        print_json(result)
    else:
        print_report(result, report)
    return EXIT_NOT_ALL_INSPECTED if result.uninspected_mm > 0 or result.stopped else EXIT_DONE


def simulate(
    out: Path,
    *,
    length_mm: float,
    width_px: int = 1024,
    seed: int = 1,
    density: Literal["dense", "production", "clean"] = "dense",
    speed: str = "1",
    advance_px: float = 32.0,
    height_px: int = 256,
    sign: Literal[1, -1] = 1,
    optics: Literal["ideal", "real"] = "ideal",
    bits: Literal[8, 10, 12, 16] = 8,
    stains_per_m2: float = 0.0,
    faults: Path | None = None,
) -> int:
    """Render a web with planted defects into a recording, with its calibration and truth.

    Parameters
    ----------
    out
        Recording to write (MCAP).
    length_mm
        Length of web.
    width_px
        Width of web and frames; a pixel is 0.05 mm.
    seed
        The same seed gives the same web.
    density
        How many defects: `dense` as in the thesis's data set, `production` 0.05 % of the pixels.
    speed
        Metres per second; `0.5:2` for an even ramp, during which the camera runs freely.
    advance_px
        Pixels the web moves from frame to frame at its highest speed.
    height_px
        Height of a frame.
    sign
        1 when features move towards smaller image rows, -1 when towards larger.
    optics
        `ideal`: Lambertian web, clean lamps and lens; `real`: sheen, cast shadows, stray light, dirt, drift and blur.
    bits
        Depth of the sensor.
    stains_per_m2
        Patches of another shade that are no defects.
    faults
        Script (TOML) of [[fault]]: kind, at_frame or at_mm, count, light, value.
    """
    from edge.core.faults import load_faults
    from edge.service.simulate import record_rendered, rendered_camera

    camera = rendered_camera(
        length_mm, width_px, seed, density, speed, advance_px, height_px, sign, optics, bits, stains_per_m2
    )
    record_rendered(camera, out, faults=None if faults is None else load_faults(faults))
    print(f"{out}: {camera.frame_count} frames, {camera.web_mm:.1f} mm of web")
    return EXIT_DONE


def import_stills(images: Path, out: Path, *, lights: Path) -> int:
    """Turn a folder of still images, one a light, into a recording.

    Parameters
    ----------
    images
        Folder of PNG, TIFF, TGA, BMP or JPEG images.
    out
        Recording to write (MCAP).
    lights
        TOML file with a [[light]] for each: `direction = [x, y, z]`, `files = "name"`, optional `intensity`.
    """
    from edge.recording.stills import import_images
    from edge.service.progress import count_progress

    with count_progress("importing") as at:
        count = import_images(images, lights, out, at)
    print(f"{out}: {count} frames")
    return EXIT_DONE


def recover(torn: Path, out: Path) -> int:
    """Rewrite a torn recording as a whole one.

    Parameters
    ----------
    torn
        What a crash, a kill or a full disk left.
    out
        Recording to write (MCAP).
    """
    from edge.service.recover import recover as run
    from edge.service.recover import sentence

    print(sentence(run(torn, out), torn, out))
    return EXIT_DONE


def listen(
    *, config: ConfigFile = None, topic: tuple[str, ...] = (), since: int | None = None, json: Json = False
) -> int:
    """Print events as they are published, and those that were missed, until ctrl-C.

    Parameters
    ----------
    config
        Configuration (TOML): [events] has the address, and for a line with keys secret_key and line_key.
    topic
        Only these: defect, coverage, alarm, status.
    since
        Begin after the event of this number; 0 for all there are. Left out: what comes from now on.
    json
        One JSON object a line.
    """
    from edge.service.keys import listener_keys
    from edge.service.listening import print_events

    require(since is None or since >= 0, "--since", "0 or more")
    settings = load_config(config).events
    print_events(settings.publish, topic, json, replay=settings.replay, since=since, keys=listener_keys(settings))
    return EXIT_DONE


def schema() -> int:
    """Print the JSON Schema of every event."""
    from edge.events.envelope import json_schema

    print_json(json_schema())
    return EXIT_DONE
