"""The command line: which commands there are, and how they end. Exit codes are those of `edge.service.answering`.

Modules are imported by the commands that need them, so that `--help` answers at once.
"""

import sys
from importlib import import_module
from pathlib import Path

import cyclopts
from cyclopts import App

from edge.core.config import load_config
from edge.core.errors import FoilsightError
from edge.service.answering import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAULT, EXIT_INTERRUPTED, print_json
from edge.service.options import ConfigFile, Json

GROUPS = {
    "literature": "Systems of the literature on any data: train, judge, predict.",
    "dataset": "Look at the data a network is to learn from.",
    "calibrate": "Find out what the line must know of its lights.",
    "keys": "Who may hear a line from another machine.",
    "engine": "Make and look after the engines that TensorRT executes on a GPU.",
}
COMMANDS = {
    "replay": (
        "edge.service.web_commands:replay",
        "Inspect a recorded web and leave a report; without a recording, a short rendered one.",
    ),
    "run": ("edge.service.line_commands:run", "Inspect what the camera sees, for a report or as a service."),
    "record": ("edge.service.line_commands:record", "Record what the camera sees."),
    "cameras": (
        "edge.service.line_commands:cameras",
        "List the cameras there are, and how each would be set up for the lights.",
    ),
    "swap": (
        "edge.service.swap_commands:swap",
        "Change model or calibration while a line runs, go back, or let another model look on.",
    ),
    "simulate": ("edge.service.web_commands:simulate", "Render a web with planted defects into a recording."),
    "import": (
        "edge.service.web_commands:import_stills",
        "Turn a folder of still images, one a light, into a recording.",
    ),
    "recover": ("edge.service.web_commands:recover", "Rewrite a torn recording as a whole one."),
    "listen": ("edge.service.web_commands:listen", "Print events as they are published, and those that were missed."),
    "bridge": ("edge.service.bridge:bridge", "Hand every event to an MQTT broker. Needs the extra [mqtt]."),
    "keys make": ("edge.service.keys:make", "Make a key pair: for a line, or for who listens to it."),
    "keys show": ("edge.service.keys:show", "Print the public key of a secret one."),
    "keys allow": ("edge.service.keys:allow", "Let a client listen to a line."),
    "schema": ("edge.service.web_commands:schema", "Print the JSON Schema of every event."),
    "train": (
        "calibration.network.training_commands:train",
        "Train the segmentation network on your own images or rendered webs. Needs the extra [train].",
    ),
    "export": (
        "calibration.network.training_commands:export",
        "Write a training's checkpoint as a model file. Needs the extra [train].",
    ),
    "quantise": (
        "calibration.network.commands:quantise",
        "Write a model in 8-bit integers, with what that costs. Needs the extra [train].",
    ),
    "gate": (
        "calibration.network.gating:gate",
        "Teach a model to pass over web that needs no network. Needs the extra [train].",
    ),
    "cost": (
        "calibration.network.commands:cost",
        "What each layer of a network costs in arithmetic and memory. Needs the extra [train].",
    ),
    "study": (
        "calibration.network.study.commands:study",
        "Train and judge the models of the thesis on imbalance, and ours. Needs the extra [train].",
    ),
    "doctor": ("edge.service.doctor:doctor", "Look whether this machine is fit to inspect, and what to do if not."),
    "literature train": (
        "calibration.network.literature.commands:train",
        "Train a system of the literature by name and judge it. Needs the extra [train].",
    ),
    "literature evaluate": (
        "calibration.network.literature.commands:evaluate",
        "Judge a trained system on other data, with curves and pictures. Needs the extra [train].",
    ),
    "literature predict": (
        "calibration.network.literature.commands:predict",
        "Write what a trained system finds as run lengths, as the Severstal competition takes them. Needs [train].",
    ),
    "dataset stats": (
        "calibration.network.datasets.commands:stats",
        "Pixels, components and areas by class of images with masks, recordings or rendered webs.",
    ),
    "calibrate lights": (
        "calibration.commands:lights",
        "Light directions from photographs of a mirror or matte ball, or from the machine's drawing.",
    ),
    "calibrate order": (
        "calibration.commands:order",
        "Whether photographs are of the lights they are said to be of, among all orders.",
    ),
    "calibrate flat": ("calibration.camera_commands:flat", "Dark and flat field from a recording of good web."),
    "calibrate linearity": (
        "calibration.camera_commands:linearity",
        "How straight the camera's counts follow the exposure time.",
    ),
    "calibrate gloss": (
        "calibration.camera_commands:gloss",
        "How much steeper gloss makes slopes look, from a relief of known height.",
    ),
    "calibrate scale": (
        "calibration.camera_commands:scale",
        "Pitch, encoder scale and transport direction from a sheet of dots.",
    ),
    "calibrate show": ("calibration.commands:show", "A page that shows a calibration and what is wrong with it."),
    "engine build": (
        "edge.service.engines:build",
        "Make the engine of a model for this machine's GPU. Needs the extra [gpu].",
    ),
    "engine list": ("edge.service.engines:list_engines", "The engines there are."),
    "engine check": (
        "edge.service.engines:check",
        "Whether a line would run on the GPU here, and if not why. Needs the extra [gpu].",
    ),
}
"""Where each is found, and what it is for in a line."""


def _app() -> App:
    app = App(
        name="foilsight",
        help="Inline surface inspection of moving webs: photometric stereo, seamless segmentation, defect events.",
        version_flags=["--version"],
    )
    groups = {name: App(name=name, help=words) for name, words in GROUPS.items()}
    for group in groups.values():
        app.command(group)
    for name, (where, words) in COMMANDS.items():
        *group_name, own_name = name.split()
        (groups[group_name[0]] if group_name else app).command(where, name=own_name, help=words)
    return app


app = _app()


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
        print_json(result)
    else:
        print_evaluation(result)
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


def _complain(message: str, code: int) -> int:
    print(f"foilsight: {message}", file=sys.stderr)
    return code


def _one_line(text: str) -> str:
    return " ".join(text.split())
