"""How well class maps agree with masks, in the terms of the thesis on imbalance (Morgese 2024, section 3.4)."""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge.core.types import U8

Counts = NDArray[np.int64]


class ClassScore(msgspec.Struct, frozen=True):
    """One class against all others, over pixels. None where a figure is not defined.

    `tpr` true positives of positives and `fpr` false positives of negatives, both of pooled counts; `precision`
    true positives of what was called so, of pooled counts; `precision_per_image` its mean over the images where the
    class was called at all; `iou` and `f1` of pooled counts.
    """

    tpr: float | None
    fpr: float | None
    precision: float | None
    precision_per_image: float | None
    iou: float | None
    f1: float | None


class Scores(msgspec.Struct, frozen=True):
    """Scores by label, the `mean` over the defects for which each is defined, and pixels [truth][called]."""

    classes: dict[str, ClassScore]
    mean: ClassScore
    confusion: list[list[int]]


def confusion_matrix(truth: U8, called: U8, classes: int) -> Counts:
    """Pixels (classes, classes): row the truth, column what it was called. Arrays of one shape."""
    joint = truth.astype(np.intp).ravel() * classes + called.ravel()
    return np.bincount(joint, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def score(confusions: Sequence[Counts], labels: Sequence[str]) -> Scores:
    """Scores of images from their confusion matrices; the first label is background."""
    each = np.stack(confusions)
    pooled = each.sum(axis=0)
    scores = {label: _class_score(each, pooled, k) for k, label in enumerate(labels)}
    defects = [scores[label] for label in labels[1:]]
    mean = {name: _mean([getattr(one, name) for one in defects]) for name in ClassScore.__struct_fields__}
    return Scores(scores, ClassScore(**mean), pooled.tolist())


def pooled_rates(
    true_positives: int, positives: int, true_negatives: int, negatives: int
) -> tuple[float | None, float | None]:
    """True and false positive rate; false positives are the negatives that were not called so.

    None without positives or negatives.
    """
    return _ratio(true_positives, positives), _ratio(negatives - true_negatives, negatives)


def dice(truth: NDArray[np.bool_], called: NDArray[np.bool_]) -> float:
    """Twice the pixels in common of the pixels of both masks; 1 where both are empty (Severstal)."""
    both = np.count_nonzero(truth) + np.count_nonzero(called)
    return 2 * np.count_nonzero(truth & called) / both if both else 1.0


def mean_dice(truth: U8, called: U8, classes: int) -> float:
    """Dice of an image, mean over its classes but background."""
    return float(np.mean([dice(truth == k, called == k) for k in range(1, classes)]))


def variation(values: ArrayLike) -> float:
    """Standard deviation of a figure: over the checkpoints of one training it is the thesis's PSoI (performance
    stability over iterations), over trainings of one model its PSoMT (over multiple trainings)."""
    return float(np.std(np.asarray(values, dtype=np.float64)))


def stability_iterations(iterations: int) -> list[int]:
    """Where PSoI is taken: every 500 of 10,000 iterations from 7,000 on, at the same shares of fewer or more."""
    return sorted({max(round(iterations * at / 10_000), 1) for at in range(7_000, 10_001, 500)})


def _class_score(each: Counts, pooled: Counts, k: int) -> ClassScore:
    right, positives, called = int(pooled[k, k]), int(pooled[k].sum()), int(pooled[:, k].sum())
    negatives = int(pooled.sum()) - positives
    tpr, fpr = pooled_rates(right, positives, negatives - (called - right), negatives)
    calls = each[:, :, k].sum(axis=1)
    return ClassScore(
        tpr,
        fpr,
        _ratio(right, called),
        float(np.mean(each[calls > 0, k, k] / calls[calls > 0])) if calls.any() else None,
        _ratio(right, positives + called - right),
        _ratio(2 * right, positives + called),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
