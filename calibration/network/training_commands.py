"""`foilsight train` and `export`. Imports nothing heavy until a command runs."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from calibration.network.commands import (
    CHANNELS,
    FIRST_TRAINING_SEED,
    FIRST_UNSEEN_SEED,
    FIRST_VALIDATION_SEED,
    UNSEEN_WEBS,
    check_writable,
    print_accuracy,
    require_torch,
)
from edge.core.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from calibration.network.networks.network import LineNetwork
    from edge.segmentation.model import Accuracy, Precision


def train(
    out: Path,
    *,
    data: str | None = None,
    validation: str | None = None,
    validation_share: float = 0.2,
    held_back: float = 0.0,
    network: Literal["unet", "unet_half", "unet_contrast", "unet_contrast_quarter", "deeplabv3plus_windowed"]
    | None = None,
    false_cost: float | None = None,
    clean_alarms: float | None = None,
    webs: int = 24,
    validation_webs: int = 3,
    length_mm: float = 100.0,
    width_px: int = 1024,
    features: int = 8,
    channels: str = ",".join(CHANNELS),
    pitch_mm: float | None = None,
    iterations: int = 2000,
    batch: int = 8,
    patch: int = 256,
    seed: int = 1,
    resume: bool = False,
    start: Path | None = None,
) -> int:
    """Train the segmentation network and write it as one ONNX file that describes itself.

    On your own images and masks, or else on rendered webs, which come through the stages of the line: exposure,
    assembly, photometric stereo. Ctrl-C ends the training early and still writes the network.

    Parameters
    ----------
    out
        Model to write (ONNX); a checkpoint is kept beside it with the ending .pt.
    data
        Images with masks, as `dataset stats` takes them; left out, rendered webs.
    validation
        Data on which probabilities are calibrated and thresholds chosen; left out, a share of the groups of the data.
    validation_share
        That share.
    held_back
        Share of the groups kept out of all this, for `foilsight evaluate` to judge the model on.
    network
        `unet`, or `unet_half`, which works at half the resolution and sees twice as far around a pixel, or
        `unet_contrast`, which sees besides what stands out there whatever the exposure, or `unet_contrast_quarter`, the
        same for large defects at a quarter, or `deeplabv3plus_windowed`, over a ResNet-50; left out, `unet_contrast`
        for photographs, `unet` for surfaces.
    false_cost
        Choose thresholds so that missed pixels and so many times the false ones are fewest; left out, by best F1.
    clean_alarms
        Choose thresholds and smallest areas so that at most this share of your clean images raises an alarm.
    webs
        Rendered webs to train on, each with other texture, lamps, noise and motion.
    validation_webs
        Further webs, of other seeds, on which the thresholds are chosen.
    length_mm
        Length of each web.
    width_px
        Width of each web.
    features
        Channels of the network's first level (the thesis has 32).
    channels
        What of a web's surface the network sees, of `normal_x,normal_y,normal_z,albedo,residual`.
    pitch_mm
        What a pixel of your images measures; left out, as much as of rendered webs.
    iterations
        Steps of the optimiser.
    batch
        Patches a step.
    patch
        Side of a square patch in pixels.
    seed
        Of weights and patches.
    resume
        Go on from the checkpoint beside the model, which a training with the same options left.
    start
        Model whose weights to begin with: `train` wrote it, its checkpoint still lies beside it. Classes may differ.
    """
    require_torch()
    from calibration.network.checkpoint import load_checkpoint
    from calibration.network.datasets.opening import open_dataset
    from calibration.network.networks.table import architecture
    from calibration.network.own_data import network_for
    from calibration.network.rendered import PITCH_MM
    from calibration.network.train import Course
    from calibration.network.unet import require_grid

    check_writable(out)
    if clean_alarms is not None and (data is None or not 0 <= clean_alarms <= 1):
        raise ConfigError(f"--clean-alarms {clean_alarms:g}: must be a share, from 0 to 1, of images of --data")
    seen = _channels(channels)
    network = network or ("unet" if data is None else network_for(open_dataset(data, channels=seen).channels))
    course = Course(
        network_name=network,
        features=features,
        iterations=iterations,
        batch=batch,
        patch=patch,
        seed=seed,
        checkpoint=out.with_suffix(".pt"),
        resume=resume,
        start=None if start is None else load_checkpoint(start.with_suffix(".pt")),
    )
    command = _command(start)
    require_grid(patch, architecture(network).grid)
    if data is not None:
        from calibration.network.finishing import finished_text
        from calibration.network.own_data import train_on

        info = train_on(
            data,
            validation,
            (validation_share, held_back),
            out,
            course,
            command=command,
            false_cost=false_cost,
            clean_alarms=clean_alarms,
            pitch_mm=PITCH_MM if pitch_mm is None else pitch_mm,
            web_channels=seen,
        )
        print(finished_text(out, info))
        return 0
    from calibration.network.losses import ComponentLoss
    from calibration.network.rendered import render_webs
    from calibration.network.train import train as run
    from edge.simulation.planting import LABELS

    training = render_webs(range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + webs), length_mm, width_px, seen)
    trained = run(training, labels=LABELS, channels=seen, loss=ComponentLoss(balance=1.0), **course)
    _finish(trained, seen, out, validation_webs, length_mm, width_px, command, false_cost)
    return 0


def export(checkpoint: Path, out: Path, *, validation_webs: int = 3, length_mm: float = 100.0) -> int:
    """Write a checkpoint of `train` as ONNX, with thresholds chosen on rendered validation webs.

    Parameters
    ----------
    checkpoint
        File with the ending .pt that `train` keeps beside its model.
    out
        Model to write (ONNX).
    validation_webs
        Webs, never trained on, on which the thresholds are chosen.
    length_mm
        Length of each web.
    """
    require_torch()
    from calibration.network.checkpoint import load_checkpoint, load_network
    from edge.simulation.planting import LABELS

    check_writable(out)
    network = load_checkpoint(checkpoint)
    _, about = load_network(checkpoint)
    channels = tuple(about.get("channels", CHANNELS))
    if network.shape[:2] != (len(channels), len(LABELS)) or tuple(about.get("classes", LABELS)) != tuple(LABELS):
        seen, classes, _ = network.shape
        raise ModelError(
            f"{checkpoint}: of {seen} channels and {classes} classes; on the line it must see {', '.join(CHANNELS)} "
            f"and tell {len(LABELS)} classes apart: `foilsight train --resume` writes models of your own data"
        )
    _finish(network, channels, out, validation_webs, length_mm, 1024, _command())
    return 0


def _finish(
    network: "LineNetwork",
    channels: tuple[str, ...],
    out: Path,
    webs: int,
    length_mm: float,
    width_px: int,
    command: str,
    false_cost: float | None = None,
) -> None:
    import msgspec
    import onnx

    from calibration.network.finishing import finish, finished_text
    from calibration.network.quantise import write_info
    from calibration.network.rendered import PITCH_MM, render_webs
    from edge.simulation.planting import LABELS
    from edge.simulation.web import VERSION

    seeds = range(FIRST_VALIDATION_SEED, FIRST_VALIDATION_SEED + webs)
    info = finish(
        network,
        render_webs(seeds, length_mm, width_px, channels),
        out,
        classes=LABELS,
        channels=channels,
        pitch_mm=PITCH_MM,
        false_cost=false_cost,
        provenance={"command": command, "data": f"rendered webs of generator version {VERSION}"},
    )
    info = msgspec.structs.replace(info, accuracy=_measured(out, length_mm, width_px))
    write_info(out, onnx.load(out), info)
    print(finished_text(out, info))
    print_accuracy(out, info)


def _measured(model: Path, length_mm: float, width_px: int) -> "dict[Precision, Accuracy]":
    """What a model finds on unseen webs in each precision that this CPU has."""
    from calibration.network.quantise import measure
    from edge.segmentation.openvino import cpu_has_bf16

    files: dict[Precision, Path] = {"f32": model, **({"bf16": model} if cpu_has_bf16() else {})}
    return measure(files, range(FIRST_UNSEEN_SEED, FIRST_UNSEEN_SEED + UNSEEN_WEBS), length_mm, width_px)


def _channels(names: str) -> tuple[str, ...]:
    from edge.segmentation.surface_channels import CHANNELS as KNOWN

    chosen = tuple(name.strip() for name in names.split(","))
    if len(set(chosen)) != len(chosen) or not set(chosen) <= set(KNOWN):
        raise ConfigError(f"--channels {names}: must be some of {', '.join(KNOWN)}, each once")
    return chosen


def _command(start: Path | None = None) -> str:
    """How a model is made: the command that runs, behind those that made the model it starts from."""
    from edge.segmentation.model import read_model

    before = [] if start is None else [read_model(start).info.provenance.get("command", "an unknown command")]
    return "; ".join([*before, "foilsight " + shlex.join(sys.argv[1:])])
