"""`foilsight evaluate MODEL --data D`: a model file against masks, pixel by pixel, as it runs on the line's CPU."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from calibration.network.augmentation import are_photographs, continued
from calibration.network.datasets.dataset import Dataset
from calibration.network.datasets.opening import open_dataset
from calibration.network.decision import without_small
from calibration.network.metrics import ClassScore, Counts, Scores, confusion_matrix, score
from calibration.network.reliability import Reliability
from calibration.network.tables import text_table
from edge.core.errors import ModelError
from edge.core.types import F32, U8
from edge.segmentation.model import ModelFile, ModelInfo, read_model
from edge.segmentation.openvino import OpenVinoBackend
from edge.segmentation.windows import padded_length, plan_axis

TRAINED_ON, ADJUSTED_ON = "trained_on", "adjusted_on"
"""Keys of a model's provenance: names of groups of images, as a JSON list."""
SLAB_ROWS = 512
BACKGROUND, DEFECT = "background", "defect"


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """A model on `images` of `groups` of a data set. Figures are None where they are not defined.

    `scores` by class; `defect`: any defect against background, of pooled pixels; `mean_iou` over all classes that
    occur, background among them. `clean_images` without a defect, and the share of them with an alarm: any pixel called
    a defect, in a component as large as the model asks for. `expected_calibration_error` of the score of what each
    pixel was called, and of those called defects.
    """

    model: str
    data: str
    images: int
    groups: int
    scores: Scores
    defect: ClassScore
    mean_iou: float | None
    clean_images: int
    clean_images_with_alarm: float | None
    expected_calibration_error: float | None
    expected_calibration_error_of_defects: float | None


def evaluate(path: Path, data: str, as_json: bool) -> int:
    """Print how well a model does on images with masks. Raises ModelError, DatasetError."""
    model = read_model(path)
    dataset = unseen_by(model.info, open_dataset(data, channels=model.info.channels))
    found = evaluation_of(model, dataset)
    print(msgspec.json.encode(found).decode() if as_json else evaluation_text(found))
    return 0


def evaluation_of(model: ModelFile, data: Dataset) -> Evaluation:
    """Ask a model for every image of a data set. Raises ModelError, DatasetError."""
    info = model.info
    if (tuple(info.channels), tuple(info.classes)) != (data.channels, data.classes):
        raise ModelError(
            f"{model.path}: made for {'/'.join(info.channels)} with {'/'.join(info.classes)}, {data.name} holds "
            f"{'/'.join(data.channels)} with {'/'.join(data.classes)}"
        )
    backend = OpenVinoBackend(model, "f32")
    confusions, clean, alarms = [], 0, 0
    of_all, of_defects = Reliability(), Reliability()
    for image, mask, _ in data:
        called, certainty = classify(backend, info, image)
        called = without_small(called, info.min_areas_px)
        right, p = called == mask, certainty / np.float32(255)
        of_all.add(p, right)
        of_defects.add(p[called > 0], right[called > 0])
        confusions.append(confusion_matrix(mask, called, len(info.classes)))
        if not mask.any():
            clean += 1
            alarms += bool(called.any())
    scores = score(confusions, info.classes)
    ious = [each.iou for each, pixels in zip(scores.classes.values(), scores.confusion, strict=True) if sum(pixels)]
    return Evaluation(
        model=model.digest,
        data=data.name,
        images=len(data),
        groups=len(data.groups),
        scores=scores,
        defect=score([_of_two(each) for each in confusions], (BACKGROUND, DEFECT)).classes[DEFECT],
        mean_iou=float(np.mean([iou or 0.0 for iou in ious])) if ious else None,
        clean_images=clean,
        clean_images_with_alarm=alarms / clean if clean else None,
        expected_calibration_error=of_all.error,
        expected_calibration_error_of_defects=of_defects.error,
    )


def classify(backend: OpenVinoBackend, info: ModelInfo, image: F32) -> tuple[U8, U8]:
    """Class index and score (H,W) u8 of an image (C,H,W) f32 of any size."""
    _, height, width = image.shape
    padded = continued(image, info.grid, mirrored=are_photographs(info.channels))[None]
    rows, columns = padded.shape[2:]
    called, certainty = np.empty((2, rows, columns), np.uint8)
    for window in plan_axis(rows, _slab(info) + 2 * info.halo, info.halo, info.grid):
        answers = backend.infer(np.ascontiguousarray(padded[:, :, window.start : window.stop]))
        kept = slice(window.keep_start - window.start, window.keep_stop - window.start)
        for out, answer in zip((called, certainty), answers, strict=True):
            out[window.keep_start : window.keep_stop] = answer[0, kept]
    return called[:height, :width], certainty[:height, :width]


def unseen_by(info: ModelInfo, data: Dataset) -> Dataset:
    """The images of groups that a model was neither trained nor adjusted on; all of them where there are no others.

    Says on the error stream what is left out, or that nothing could be.
    """
    known = {group for key in (TRAINED_ON, ADJUSTED_ON) for group in json.loads(info.provenance.get(key, "[]"))}
    unseen = [group for group in data.groups if group not in known]
    if not unseen:
        print(f"warning: {data.name}: the model was made with all of it: figures will flatter", file=sys.stderr)
        return data
    if len(unseen) < len(data.groups):
        left_out = len(data.groups) - len(unseen)
        print(f"{data.name}: {left_out} groups that the model was made with are left out", file=sys.stderr)
    return data.of_groups(unseen)


def evaluation_text(found: Evaluation) -> str:
    """An evaluation as a table."""
    head = ("class", *ClassScore.__struct_fields__)
    rows = [(label, *_texts(each)) for label, each in found.scores.classes.items()]
    rows += [("any defect", *_texts(found.defect)), ("mean of defects", *_texts(found.scores.mean))]
    lines = [f"{found.data}: {found.images} images of {found.groups} groups", text_table(head, rows)]
    lines.append(f"mean IoU of all classes: {_text(found.mean_iou)}")
    if found.clean_images_with_alarm is not None:
        share = f"{100 * found.clean_images_with_alarm:.1f} %"
        lines.append(f"clean images with an alarm: {share} of {found.clean_images}")
    lines.append(
        f"expected calibration error: {_text(found.expected_calibration_error)}, of pixels called defects "
        f"{_text(found.expected_calibration_error_of_defects)}"
    )
    return "\n".join(lines)


def _of_two(confusion: Counts) -> Counts:
    """Background and any defect."""
    return np.array(
        [[confusion[0, 0], confusion[0, 1:].sum()], [confusion[1:, 0].sum(), confusion[1:, 1:].sum()]], np.int64
    )


def _slab(info: ModelInfo) -> int:
    return padded_length(SLAB_ROWS, info.grid)


def _texts(each: ClassScore) -> Iterator[str]:
    return (_text(getattr(each, name)) for name in ClassScore.__struct_fields__)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
