"""The command line. Exit codes: 0 done; 1 done, but web inside the roll was not inspected or a check failed; 2 bad
input or a missing part; 3 a fault of Foilsight itself.

Modules are imported by the commands that need them, so that `--help` answers at once.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import cyclopts
from cyclopts import App, Parameter
from msgspec.structs import replace

from edge.core.config import Config, load_config
from edge.core.errors import FoilsightError

if TYPE_CHECKING:
    from edge.core.types import FrameSource
    from edge.service.gallery import Truth

EXIT_DONE, EXIT_NOT_ALL_INSPECTED, EXIT_BAD_INPUT, EXIT_FAULT, EXIT_INTERRUPTED = 0, 1, 2, 3, 130

app = App(
    name="foilsight",
    help="Inline surface inspection of moving webs: photometric stereo, seamless segmentation, defect events.",
    version_flags=["--version"],
)
app.command(
    "calibration.network.training_commands:train",
    name="train",
    help="Train the segmentation network on your own images or rendered webs. Needs the extra [train].",
)
app.command(
    "calibration.network.training_commands:export",
    name="export",
    help="Write a training's checkpoint as a model file. Needs the extra [train].",
)
app.command(
    "calibration.network.commands:quantise",
    name="quantise",
    help="Write a model in 8-bit integers, with what that costs. Needs the extra [train].",
)
app.command(
    "calibration.network.gating:gate",
    name="gate",
    help="Teach a model to pass over web that needs no network. Needs the extra [train].",
)
app.command(
    "calibration.network.commands:cost",
    name="cost",
    help="What each layer of a network costs in arithmetic and memory. Needs the extra [train].",
)
app.command(
    "calibration.network.study.commands:study",
    name="study",
    help="Train and judge the models of the thesis on imbalance, and ours. Needs the extra [train].",
)
literature = App(name="literature", help="Systems of the literature on any data: train, judge, predict.")
app.command(literature)
literature.command(
    "calibration.network.literature.commands:train",
    name="train",
    help="Train a system of the literature by name and judge it. Needs the extra [train].",
)
literature.command(
    "calibration.network.literature.commands:evaluate",
    name="evaluate",
    help="Judge a trained system on other data, with curves and pictures. Needs the extra [train].",
)
literature.command(
    "calibration.network.literature.commands:predict",
    name="predict",
    help="Write what a trained system finds as run lengths, as the Severstal competition takes them. Needs [train].",
)
dataset = App(name="dataset", help="Look at the data a network is to learn from.")
app.command(dataset)
dataset.command(
    "calibration.network.datasets.commands:stats",
    name="stats",
    help="Pixels, components and areas by class of images with masks, recordings or rendered webs.",
)
calibrate = App(name="calibrate", help="Find out what the line must know of its lights.")
app.command(calibrate)
calibrate.command(
    "calibration.commands:lights",
    name="lights",
    help="Light directions from photographs of a mirror or matte ball, or from the machine's drawing.",
)
calibrate.command(
    "calibration.commands:order",
    name="order",
    help="Whether photographs are of the lights they are said to be of, among all orders.",
)
calibrate.command(
    "calibration.camera_commands:flat",
    name="flat",
    help="Dark and flat field from a recording of good web.",
)
calibrate.command(
    "calibration.camera_commands:linearity",
    name="linearity",
    help="How straight the camera's counts follow the exposure time.",
)
calibrate.command(
    "calibration.camera_commands:gloss",
    name="gloss",
    help="How much steeper gloss makes slopes look, from a relief of known height.",
)
calibrate.command(
    "calibration.camera_commands:scale",
    name="scale",
    help="Pitch, encoder scale and transport direction from a sheet of dots.",
)
calibrate.command(
    "calibration.commands:show",
    name="show",
    help="A page that shows a calibration and what is wrong with it.",
)

app.command(
    "edge.service.doctor:doctor",
    name="doctor",
    help="Look whether this machine is fit to inspect, and what to do if not.",
)
engine = App(name="engine", help="Make and look after the engines that TensorRT executes on a GPU.")
app.command(engine)
engine.command(
    "edge.service.engines:build",
    name="build",
    help="Make the engine of a model for this machine's GPU. Needs the extra [gpu].",
)
engine.command("edge.service.engines:list_engines", name="list", help="The engines there are.")
engine.command(
    "edge.service.engines:check",
    name="check",
    help="Whether a line would run on the GPU here, and if not why. Needs the extra [gpu].",
)

Json = Annotated[bool, Parameter(name="--json", negative="")]
ConfigFile = Annotated[Path | None, Parameter(name="--config")]
RequireGpu = Annotated[bool, Parameter(name="--require-gpu", negative="")]


@app.command
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
    from edge.service.options import planes_of, rate_of
    from edge.service.replay import ReplayOptions
    from edge.service.replay import replay as run
    from edge.service.report import print_report

    settings = _settings(config, require_gpu)
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
        _print_json(result)
    else:
        print_report(result, report)
    return EXIT_NOT_ALL_INSPECTED if result.uninspected_mm > 0 or result.stopped else EXIT_DONE


@app.command
def run(
    *,
    config: Path,
    report: Path = Path("foilsight-run"),
    length_mm: float | None = None,
    require_gpu: RequireGpu = False,
    json: Json = False,
    service: Annotated[bool, Parameter(negative="")] = False,
    record: Path | None = None,
) -> int:
    """Inspect what the camera sees, until ctrl-C or SIGTERM, and leave a report.

    Parameters
    ----------
    config
        Configuration (TOML): its [camera] says which camera and lights, `calibration` names their calibration; with
        `device = "simulated"` neither is needed.
    report
        Folder for the report: open its report.html.
    length_mm
        End after so much web.
    require_gpu
        End with an error rather than run on the processor.
    json
        Print the report as one JSON object and nothing else.
    service
        Run for months, as a service: no report, but health, metrics and a log; started again, it goes on where it was
        on the web. Events are kept in STATE_DIRECTORY.
    record
        Recording to write besides (MCAP), not for a service; where it cannot go on, inspection does.
    """
    from edge.service.line import configured_line

    settings = _settings(config, require_gpu)
    if service:
        from edge.service.options import require
        from edge.service.serving import serve

        require(record is None, "--record", "left out with --service")
        with configured_line(settings, quiet=True) as line:
            serve(line, settings, length_mm)
        return EXIT_DONE

    from edge.service.report import print_report
    from edge.service.run import run as run_line

    with configured_line(settings, quiet=json) as line:
        result = run_line(line, settings, report, length_mm, quiet=json, out=record)
    if json:
        _print_json(result)
    else:
        print_report(result, report)
    return EXIT_DONE


@app.command
def record(out: Path, *, config: Path, length_mm: float | None = None) -> int:
    """Record what the camera sees, until ctrl-C or SIGTERM.

    Parameters
    ----------
    out
        Recording to write (MCAP).
    config
        Configuration (TOML): its [camera] says which camera and lights, `calibration` names their calibration; with
        `device = "simulated"` neither is needed.
    length_mm
        End after so much web.
    """
    from edge.core.errors import RecordingError
    from edge.service.line import configured_line
    from edge.service.run import record as record_line

    settings = load_config(config)
    with configured_line(settings) as line:
        recorded = record_line(line, settings, out, length_mm)
    if recorded.problem is not None:
        raise RecordingError(recorded.problem)
    print(f"{out}: {recorded.frames} frames, {recorded.dropped} dropped")
    return EXIT_DONE


@app.command
def cameras(*, config: ConfigFile = None) -> int:
    """List the cameras there are, and how each would be set up for the lights.

    Each camera is set up as the configuration says, to see whether it can.

    Parameters
    ----------
    config
        Configuration (TOML) with producers and lights under [camera].
    """
    from edge.service.cameras import print_cameras

    print_cameras(load_config(config))
    return EXIT_DONE


@app.command
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


@app.command(name="import")
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


@app.command
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


@app.command
def evaluate(
    what: Path,
    *,
    data: str | None = None,
    config: ConfigFile = None,
    report: Path | None = None,
    json: Json = False,
) -> int:
    """Hold the events of a rendered web's recording against the truth in it, or a model's pixels against masks.

    Parameters
    ----------
    what
        MCAP file written by `simulate`; with `--data` a model (ONNX).
    data
        Images with masks, as `dataset stats` takes them; those the model was made with are left out.
    config
        Configuration (TOML).
    report
        Folder for a page with pictures of what was missed and what was false: open its evaluation.html.
    json
        Print the result as one JSON object and nothing else.
    """
    if data is not None:
        evaluate_pixels = import_module("calibration.network.evaluation").evaluate
        return int(evaluate_pixels(what, data, json))
    from edge.core.errors import RecordingError
    from edge.recording.reader import Recording
    from edge.service.evaluate import evaluate as run
    from edge.service.evaluate import print_evaluation

    opened = Recording(what)
    truth = opened.truth_classes()
    if truth is None:
        raise RecordingError(f"{what}: holds no truth to evaluate against: only rendered webs do")
    result = run(opened, truth, load_config(config), json, report, what.name)
    if json:
        _print_json(result)
    else:
        print_evaluation(result)
    return EXIT_DONE


@app.command
def listen(
    *, config: ConfigFile = None, topic: tuple[str, ...] = (), since: int | None = None, json: Json = False
) -> int:
    """Print events as they are published, and those that were missed, until ctrl-C.

    Parameters
    ----------
    config
        Configuration (TOML) with the address under [events] publish.
    topic
        Only these: defect, coverage, alarm, status.
    since
        Begin after the event of this number; 0 for all there are. Left out: what comes from now on.
    json
        One JSON object a line.
    """
    from edge.service.listening import print_events
    from edge.service.options import require

    require(since is None or since >= 0, "--since", "0 or more")
    settings = load_config(config).events
    print_events(settings.publish, topic, json, replay=settings.replay, since=since)
    return EXIT_DONE


@app.command
def schema() -> int:
    """Print the JSON Schema of every event."""
    from edge.events.envelope import json_schema

    _print_json(json_schema())
    return EXIT_DONE


def main(arguments: list[str] | None = None) -> None:
    """Run a command; errors a person can mend become one line on the error stream."""
    sys.exit(run_command(arguments))


def run_command(arguments: list[str] | None = None) -> int:
    """As `main`, returning the exit code."""
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except FoilsightError as error:
        return _complain(str(error), EXIT_BAD_INPUT)
    except cyclopts.CycloptsError as error:
        return _complain(f"{_one_line(str(error))} (see foilsight --help)", EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        return _complain("stopped by hand", EXIT_INTERRUPTED)
    except BrokenPipeError:
        return EXIT_DONE
    except Exception as error:
        return _complain(f"a fault of Foilsight itself: {type(error).__name__}: {_one_line(str(error))}", EXIT_FAULT)
    return code if isinstance(code, int) else EXIT_DONE


def _settings(config: Path | None, require_gpu: bool) -> Config:
    settings = load_config(config)
    if not require_gpu:
        return settings
    return replace(settings, segmentation=replace(settings.segmentation, backend="tensorrt"))


def _complain(message: str, code: int) -> int:
    print(f"foilsight: {message}", file=sys.stderr)
    return code


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _print_json(value: object) -> None:
    import msgspec

    print(msgspec.json.encode(value).decode())
