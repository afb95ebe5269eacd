"""`foilsight literature`. Imports nothing heavy until a command runs."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from calibration.network.commands import require_torch
from edge.core.errors import ConfigError

if TYPE_CHECKING:
    from calibration.network.literature.detector import Detector
    from edge.core.types import U8

VALIDATION_SHARE = 0.2


def train(
    recipe: str,
    *,
    data: str,
    out: Path,
    validation: str | None = None,
    iterations: int = 10_000,
    weights: Path | None = None,
    batch: int | None = None,
    crop: int | None = None,
    least_intensity: float | None = None,
    narrow: int = 1,
    seed: int = 1,
) -> int:
    """Train a system of the literature and judge it: thresholds, figures, APRF curves, pictures.

    Started again with the same options, a training that was stopped goes on. To pre-train on synthetic images and
    fine-tune on real ones, train twice, the second time with the first one's folder as `--weights`.

    Parameters
    ----------
    recipe
        itwm_fcn, itwm_deeplabv3, itwm_unet (crops biased by intensity); severstal (image classifier, then the ELU
        U-Net), severstal_one_step (without the classifier); car_parts (DeepLabV3+), car_parts_plain (without the
        convolution in image pooling).
    data
        Training data, as `dataset stats` takes them.
    out
        Folder for the networks, judgement.json, the curves and the pictures.
    validation
        Data on which thresholds are chosen and all is judged; left out, a fifth of the groups of the training data.
    iterations
        Steps of the optimiser, for every network of the system.
    weights
        What to begin with: the folder of an earlier training, or a file with a ResNet-50 in torchvision's names.
    batch
        Images a step; left out, as the recipe says.
    crop
        Side of a square crop in pixels; left out, as the recipe says.
    least_intensity
        Crops whose mean intensity (0..255) is not above this are drawn again, 0 for none; left out, as the recipe says.
    narrow
        Divide the published widths of the networks by this: for a quick trial.
    seed
        Of weights, crops and the split.
    """
    require_torch()
    from calibration.network.datasets.dataset import split, warn_of_shared_groups
    from calibration.network.datasets.opening import open_dataset
    from calibration.network.literature.judging import judgement_text
    from calibration.network.literature.recipes import recipe_of
    from calibration.network.literature.run import train as run

    chosen = recipe_of(recipe)
    changes = {"batch": batch, "crop": crop, "least_intensity": least_intensity}
    given = {name: value for name, value in changes.items() if value is not None}
    for name, value in {"iterations": iterations, **given, "narrow": narrow}.items():
        if value < (0 if name == "least_intensity" else 1):
            raise ConfigError(f"--{name.replace('_', '-')} {value}: must be 1 or more, an intensity 0 or more")
    chosen = dataclasses.replace(chosen, narrow=narrow, **given)
    training = open_dataset(data)
    if validation is None:
        training, judged_on = split(training, VALIDATION_SHARE, seed)
    else:
        judged_on = open_dataset(validation)
        warn_of_shared_groups(training, judged_on)
    judgement = run(chosen, training, judged_on, out, iterations=iterations, seed=seed, weights=weights)
    print(judgement_text(judgement))
    print(out / "judgement.json")
    return 0


def evaluate(
    trained: Path,
    data: str,
    *,
    out: Path,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Judge a trained system on data, at the thresholds it was given: figures, APRF curves, pictures.

    Parameters
    ----------
    trained
        Folder that `literature train` left.
    data
        Data with truth, as `dataset stats` takes them.
    out
        Folder for judgement.json, the curves and the pictures.
    json
        Print the judgement as one JSON object and nothing else.
    """
    require_torch()
    import msgspec

    from calibration.network.datasets.opening import open_dataset
    from calibration.network.literature.detector import load_detector
    from calibration.network.literature.judging import judge, judgement_text

    detector = load_detector(trained)
    dataset = open_dataset(data)
    detector.require(dataset.channels, dataset.classes, dataset.name)
    judgement = judge(detector, dataset, out)
    print(msgspec.json.encode(judgement).decode() if json else judgement_text(judgement))
    return 0


def predict(trained: Path, images: Path, *, out: Path) -> int:
    """Write what a trained system finds in images as run lengths: ImageId, ClassId, EncodedPixels.

    Pixels count from 1, down the columns first; an image has a row for each class found in it.

    Parameters
    ----------
    trained
        Folder that `literature train` left.
    images
        Folder of images; they need no masks.
    out
        Table to write (CSV).
    """
    require_torch()
    from calibration.network.datasets.severstal import write_predictions
    from calibration.network.literature.detector import load_detector

    detector = load_detector(trained)
    names = _images_in(images)
    write_predictions(out, _predictions(detector, names))
    print(f"{out}: {len(names)} images")
    return 0


def _images_in(folder: Path) -> list[Path]:
    from calibration.network.datasets.dataset import DatasetError
    from calibration.network.datasets.masks import IMAGE_ENDINGS

    found = sorted(folder.iterdir()) if folder.is_dir() else []
    images = [path for path in found if path.suffix.lower() in IMAGE_ENDINGS]
    if not images:
        raise DatasetError(f"{folder}: holds no images (PNG, TIFF, TGA, BMP or JPEG)")
    return images


def _predictions(detector: "Detector", images: list[Path]) -> "Iterator[tuple[str, U8]]":
    from calibration.network.datasets.masks import read_channels

    for path in images:
        image = read_channels(path)
        detector.require(("channel",) * len(image), None, str(path))
        yield path.name, detector.classes_of(detector.ask(image)[1])
