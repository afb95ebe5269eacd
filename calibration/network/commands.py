"""`foilsight train`, `export` and `quantise`. Imports nothing heavy until a command runs."""

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from edge.core.errors import ConfigError, MissingExtra, ModelError

if TYPE_CHECKING:
    from edge.segmentation.model import Accuracy, ModelInfo, Precision

CHANNELS = ("normal_x", "normal_y", "albedo")
FIRST_TRAINING_SEED, FIRST_VALIDATION_SEED, FIRST_UNSEEN_SEED = 10_000, 20_000, 30_000
"""Seeds from here on are rendered for training, for choosing thresholds, and for measuring what was chosen; smaller
ones are free for tests and demonstrations."""
UNSEEN_WEBS = 8
QUANTISATION_PATCHES = 48


def train(
    out: Path,
    *,
    data: str | None = None,
    validation: str | None = None,
    validation_share: float = 0.2,
    held_back: float = 0.0,
    network: Literal["unet", "unet_half"] = "unet",
    false_cost: float | None = None,
    webs: int = 24,
    validation_webs: int = 3,
    length_mm: float = 100.0,
    width_px: int = 1024,
    features: int = 8,
    iterations: int = 2000,
    batch: int = 8,
    patch: int = 256,
    seed: int = 1,
    resume: bool = False,
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
        `unet`, or `unet_half`, which works at half the resolution and sees twice as far around a pixel.
    false_cost
        Choose thresholds so that missed pixels and so many times the false ones are fewest; left out, by best F1.
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
    """
    require_torch()
    from calibration.network.rendered import render_webs
    from calibration.network.train import train as run
    from edge.simulation.planting import LABELS

    _check_writable(out)
    command = "foilsight " + shlex.join(sys.argv[1:])
    if data is not None:
        from calibration.network.own_data import train_on

        info = train_on(
            data,
            validation,
            (validation_share, held_back),
            out,
            command=command,
            network=network,
            features=features,
            iterations=iterations,
            batch=batch,
            patch=patch,
            seed=seed,
            resume=resume,
            false_cost=false_cost,
        )
        print(f"{out}: pixel F1 on validation data: {info.provenance['pixel_f1']}")
        return 0
    training = render_webs(range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + webs), length_mm, width_px, CHANNELS)
    trained = run(
        training,
        labels=LABELS,
        channels=CHANNELS,
        features=features,
        iterations=iterations,
        batch=batch,
        patch=patch,
        seed=seed,
        checkpoint=out.with_suffix(".pt"),
        resume=resume,
    )
    _write(trained, out, command, validation_webs, length_mm, width_px)
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
    from calibration.network.checkpoint import load_checkpoint
    from edge.simulation.planting import LABELS

    _check_writable(out)
    network = load_checkpoint(checkpoint)
    if network.shape[:2] != (len(CHANNELS), len(LABELS)):
        seen, classes, _ = network.shape
        raise ModelError(
            f"{checkpoint}: of {seen} channels and {classes} classes; on the line it must see {', '.join(CHANNELS)} "
            f"and tell {len(LABELS)} classes apart"
        )
    command = "foilsight " + shlex.join(sys.argv[1:])
    _write(network, out, command, validation_webs, length_mm, width_px=1024)
    return 0


def quantise(
    model: Path,
    out: Path,
    *,
    calibration_webs: int = 8,
    unseen_webs: int = UNSEEN_WEBS,
    length_mm: float = 60.0,
    width_px: int = 1024,
) -> int:
    """Write a model in 8-bit integers, with what it finds of unseen webs beside what the model itself does.

    Exit code 1 where it loses more than a point of object recall or precision; it is written all the same.

    Parameters
    ----------
    model
        Model written by `train` or `export` (ONNX); it is left as it is.
    out
        Model to write (ONNX).
    calibration_webs
        Rendered webs on which the ranges of activations are taken.
    unseen_webs
        Further webs, never trained on, on which the loss is measured.
    length_mm
        Length of each web.
    width_px
        Width of each web.
    """
    _require_nncf()
    import msgspec

    from calibration.network.quantise import check_classes, measure, write_info
    from calibration.network.quantise import quantise as run
    from calibration.network.rendered import render_webs
    from calibration.network.sampling import PatchSampler
    from edge.segmentation.model import load_model
    from edge.segmentation.openvino import cpu_has_bf16

    _check_writable(out)
    source = load_model(model)
    check_classes(source)
    info = source.info
    seeds = range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + calibration_webs)
    webs = render_webs(seeds, length_mm, width_px, info.channels)
    patches, _ = PatchSampler(webs, info.channels, len(info.classes), patch=256, seed=1).draw(QUANTISATION_PATCHES)
    proto = run(source, patches)
    provenance = {**info.provenance, "quantised": "foilsight " + shlex.join(sys.argv[1:]), "from": source.digest}
    info = msgspec.structs.replace(info, precision="int8", accuracy={}, provenance=provenance)
    write_info(out, proto, info)
    files = {"f32": model, **({"bf16": model} if cpu_has_bf16() else {}), "int8": out}
    unseen = range(FIRST_UNSEEN_SEED, FIRST_UNSEEN_SEED + unseen_webs)
    info = msgspec.structs.replace(info, accuracy=measure(files, unseen, length_mm, width_px))
    write_info(out, proto, info)
    _print_accuracy(out, info)
    return 0 if info.within_budget("int8") else 1


def cost(
    checkpoint: Path | None = None,
    *,
    network: str = "unet",
    patch: int = 256,
    batch: int = 16,
    features: int | None = None,
    channels: int = len(CHANNELS),
    classes: int = 5,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Print what each layer of a network costs: kernels, activations, parameters, arithmetic, memory.

    Parameters
    ----------
    checkpoint
        File with the ending .pt that a training keeps; without it, an untrained network.
    network
        Name of an untrained network: unet, elu_unet, fcn, deeplabv3, deeplabv3plus, deeplabv3plus_plain, resnet50.
    patch
        Side of a square patch in pixels.
    batch
        Patches at a time.
    features
        Channels of an untrained network's first level; left out, as published.
    channels
        Channels that an untrained network sees.
    classes
        Classes that an untrained network tells apart.
    json
        Print the layers as one JSON object and nothing else.
    """
    require_torch()
    import msgspec

    from calibration.network.checkpoint import load_network
    from calibration.network.cost import cost_of, cost_text
    from calibration.network.networks.table import architecture, build
    from calibration.network.unet import require_grid

    if min(batch, features or 1, channels) < 1 or classes < 2:
        raise ConfigError("--batch, --features and --channels must be 1 or more, --classes 2 or more")
    asked = build(network, channels, classes, features) if checkpoint is None else load_network(checkpoint)[0]
    require_grid(patch, architecture(asked.architecture).grid)
    found = cost_of(asked, asked.shape[0], patch, batch)
    print(msgspec.json.encode(found).decode() if json else cost_text(found))
    return 0


def _write(network: object, out: Path, command: str, webs: int, length_mm: float, width_px: int) -> None:
    import msgspec
    import onnx

    from calibration.network.export import export as write_onnx
    from calibration.network.quantise import write_info
    from calibration.network.rendered import PITCH_MM, render_webs
    from calibration.network.thresholds import choose_thresholds, pixel_f1
    from calibration.network.unet import GRID, HALO, UNet
    from edge.segmentation.model import ModelInfo
    from edge.simulation.planting import LABELS
    from edge.simulation.web import VERSION

    assert isinstance(network, UNet)
    validation = render_webs(range(FIRST_VALIDATION_SEED, FIRST_VALIDATION_SEED + webs), length_mm, width_px, CHANNELS)
    thresholds = choose_thresholds(network, validation)
    scores = dict(zip(LABELS[1:], pixel_f1(network, validation), strict=True))
    info = ModelInfo(
        classes=list(LABELS),
        channels=list(CHANNELS),
        pitch_mm=PITCH_MM,
        grid=GRID,
        halo=HALO,
        thresholds=thresholds,
        provenance={
            "command": command,
            "data": f"rendered webs of generator version {VERSION}",
            "pixel_f1": ", ".join(f"{label} {f1:.3f}" for label, f1 in scores.items()),
        },
    )
    write_onnx(network, out, info)
    info = msgspec.structs.replace(info, accuracy=_measured(out, length_mm, width_px))
    write_info(out, onnx.load(out), info)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB; pixel F1 on validation webs: {info.provenance['pixel_f1']}")
    _print_accuracy(out, info)


def _measured(model: Path, length_mm: float, width_px: int) -> "dict[Precision, Accuracy]":
    """What a model finds on unseen webs in each precision that this CPU has."""
    from calibration.network.quantise import measure
    from edge.segmentation.openvino import cpu_has_bf16

    files = {"f32": model, **({"bf16": model} if cpu_has_bf16() else {})}
    return measure(files, range(FIRST_UNSEEN_SEED, FIRST_UNSEEN_SEED + UNSEEN_WEBS), length_mm, width_px)


def _print_accuracy(path: Path, info: "ModelInfo") -> None:
    for precision, figures in info.accuracy.items():
        print(
            f"{path}: {precision} finds {100 * figures.object_recall:.1f} % of {figures.planted} unseen objects, "
            f"{100 * figures.object_precision:.1f} % of {figures.events} events are true"
        )


def require_torch() -> None:
    """Raises MissingExtra where networks cannot be trained."""
    try:
        import onnxscript  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtra("PyTorch or onnxscript", "train") from error


def _require_nncf() -> None:
    for module, package in (("nncf", "NNCF"), ("onnx", "ONNX"), ("onnxruntime", "ONNX Runtime")):
        if find_spec(module) is None:
            raise MissingExtra(package, "train")


def _check_writable(out: Path) -> None:
    if not out.parent.is_dir():
        raise ConfigError(f"{out}: folder {out.parent} does not exist")
