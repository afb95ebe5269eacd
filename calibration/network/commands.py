"""`foilsight train` and `foilsight export`. Imports nothing heavy until a command runs."""

import shlex
import sys
from pathlib import Path

from edge.core.errors import ConfigError, MissingExtra

CHANNELS = ("normal_x", "normal_y", "albedo")
FIRST_TRAINING_SEED, FIRST_VALIDATION_SEED = 10_000, 20_000
"""Seeds from here on are rendered for training and validation; smaller ones are free for tests and demonstrations."""


def train(
    out: Path,
    *,
    webs: int = 24,
    validation_webs: int = 3,
    length_mm: float = 100.0,
    width_px: int = 1024,
    features: int = 8,
    iterations: int = 2000,
    batch: int = 8,
    patch: int = 256,
    seed: int = 1,
) -> int:
    """Train the segmentation network on rendered webs and write it as one ONNX file that describes itself.

    The webs come through the stages of the line: exposure, assembly, photometric stereo. Ctrl-C ends the training early
    and still writes the network.

    Parameters
    ----------
    out
        Model to write (ONNX); a checkpoint is kept beside it with the ending .pt.
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
    """
    _require_torch()
    from calibration.network.rendered import render_webs
    from calibration.network.train import train as run
    from edge.simulation.planting import LABELS

    _check_writable(out)
    training = render_webs(range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + webs), length_mm, width_px, CHANNELS)
    network = run(
        training,
        labels=LABELS,
        channels=CHANNELS,
        features=features,
        iterations=iterations,
        batch=batch,
        patch=patch,
        seed=seed,
        checkpoint=out.with_suffix(".pt"),
    )
    command = "foilsight " + shlex.join(sys.argv[1:])
    _write(network, out, command, validation_webs, length_mm, width_px)
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
    _require_torch()
    from calibration.network.train import load_checkpoint

    _check_writable(out)
    command = "foilsight " + shlex.join(sys.argv[1:])
    _write(load_checkpoint(checkpoint), out, command, validation_webs, length_mm, width_px=1024)
    return 0


def _write(network: object, out: Path, command: str, webs: int, length_mm: float, width_px: int) -> None:
    from calibration.network.export import export as write_onnx
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
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB; pixel F1 on validation webs: {info.provenance['pixel_f1']}")


def _require_torch() -> None:
    try:
        import onnxscript  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtra("PyTorch or onnxscript", "train") from error


def _check_writable(out: Path) -> None:
    if not out.parent.is_dir():
        raise ConfigError(f"{out}: folder {out.parent} does not exist")
