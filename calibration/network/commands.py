"""`foilsight quantise` and `cost`, and what every command of networks needs. Imports nothing heavy until it runs."""

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from edge.core.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from edge.segmentation.model import ModelInfo, Precision

CHANNELS = ("normal_x", "normal_y", "albedo")
FIRST_TRAINING_SEED, FIRST_VALIDATION_SEED, FIRST_UNSEEN_SEED = 10_000, 20_000, 30_000
"""Seeds from here on are rendered for training, for choosing thresholds, and for measuring what was chosen; smaller
ones are free for tests and demonstrations."""
UNSEEN_WEBS = 8


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

    from calibration.network.quantise import check_classes, measure, patches_of_webs, write_info
    from calibration.network.quantise import quantise as run
    from edge.segmentation.model import load_model
    from edge.segmentation.openvino import cpu_has_bf16

    check_writable(out)
    source = load_model(model)
    check_classes(source)
    info = source.info
    proto = run(source, patches_of_webs(info, calibration_webs, length_mm, width_px))
    provenance = {**info.provenance, "quantised": "foilsight " + shlex.join(sys.argv[1:]), "from": source.digest}
    info = msgspec.structs.replace(info, precision="int8", accuracy={}, provenance=provenance)
    write_info(out, proto, info)
    files: dict[Precision, Path] = {"f32": model, **({"bf16": model} if cpu_has_bf16() else {}), "int8": out}
    unseen = range(FIRST_UNSEEN_SEED, FIRST_UNSEEN_SEED + unseen_webs)
    info = msgspec.structs.replace(info, accuracy=measure(files, unseen, length_mm, width_px))
    write_info(out, proto, info)
    print_accuracy(out, info)
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
        Name of an untrained network: unet, elu_unet, fcn, deeplabv3, deeplabv3plus, deeplabv3plus_plain,
        deeplabv3plus_windowed, resnet50.
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


def print_accuracy(path: Path, info: "ModelInfo") -> None:
    """One line for each precision of execution that was measured."""
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


def check_writable(out: Path) -> None:
    """Raises ConfigError where there is no folder to write into, before hours are spent on what is to be written."""
    if not out.parent.is_dir():
        raise ConfigError(f"{out}: folder {out.parent} does not exist")
