"""Which light is which: every order that the lights can have, held against what they show of one still object.

Two frames swapped, a cable in the wrong socket: the images are good and the normals are wrong. Three things tell:

- Residual: four lights and more must agree on one normal and one albedo. For a symmetric cross of four lights it cannot
  tell 8 of the 24 orders from each other: turned and mirrored ones.
- Curl: normals are those of a surface, whose gradient (dh/dx, dh/dy) has none. Turned by a quarter or mirrored it has.
- Convexity: a half-turn makes a hollow of a bump, which is a surface too. Where nothing else tells, the object is taken
  to bulge towards the camera.

Lights in a frame of the other hand (y up, rows down) are mirrored lights: their best order is a mirrored one.
"""

from collections.abc import Sequence
from itertools import permutations
from typing import Literal

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.core.errors import CalibrationError
from edge.core.types import F32

F64 = NDArray[np.float64]

MOST_LIGHTS = 6
"""Of more there are too many orders."""
_MOST_PIXELS = 1 << 19
_SMOOTHING_PX = 2.0
_LIT, _OF_BRIGHT = 0.05, 99
"""A pixel counts where its darkest light gives this part of its brightest, and that this part of a bright pixel's."""
_STEEPEST = 0.2
"""Smallest n_z of which a slope is made."""
_PATCHES, _LEAST_PATCHES, _LEAST_PATCH_PX = 100, 9, 36
_LEAST_RESIDUAL, _LEAST_CURL = 1e-3, 1e-2
"""What rounded images show of the right order."""
_SURE, _WORSE = 4.0, 0.05
"""An order is wrong where it is worse, in natural logarithms, by so many standard errors and so much."""
_CONVEX = 0.75
"""Least part of a convex object's pixels at which it is seen to bulge."""

Verdict = Literal["best", "wrong", "hollow", "untold"]


class OrderScore(msgspec.Struct, frozen=True, kw_only=True):
    """One order of the lights: image i was taken under light `order[i]`.

    `residual`: of the lights that disagree, relative to albedo; `curl` relative to the change of the gradient;
    `convex`: part of the object that bulges (means over patches of the object). `worse`: how much worse residual and
    curl are than the best order's, in natural logarithms, `sigma` in standard errors. `verdict`: "best"; "wrong";
    "hollow", a half-turn that only a hollow object would give; "untold" where nothing tells it from the best.
    `told_by`: what says so most clearly.
    """

    order: tuple[int, ...]
    residual: float
    curl: float
    convex: float
    worse: float
    sigma: float
    verdict: Verdict
    told_by: Literal["residual", "curl", "convexity", ""]


class CheckedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the order given: `holds` where it is the best, or as good as the best. `summary`: one line.
    `orders`: all there are."""

    holds: bool
    summary: str
    orders: list[OrderScore]


def check_order(images: Sequence[F32] | F32, g: F64) -> CheckedOrder:
    """Whether image i was taken under light i, as `find_order` sees it.

    Raises CalibrationError where it does, or where nothing tells any order from another.
    """
    orders = find_order(images, g)
    best, given = orders[0], next(each for each in orders if each.order == tuple(range(len(g))))
    untold = [each for each in orders if each.verdict == "untold"]
    if len(untold) == len(orders) - 1:
        raise CalibrationError(
            "nothing tells one order of the lights from another: the object must have some shape, a ball is best"
        )
    also = f"; nothing tells it from {_listed(untold)}" if untold else ""
    if given.verdict == "best":
        hollow = [each for each in orders if each.verdict == "hollow"]
        unless = f", unless the object is hollow: then {_listed(hollow)}" if hollow else ""
        summary = f"the order given is right{unless}{also}"
    elif given.verdict == "untold":
        summary = f"the order given may be right, so may {_listed([best])}{also}"
    elif given.verdict == "hollow":
        summary = f"the order given is right only if the object is hollow: a convex one says {_listed([best])}{also}"
    else:
        summary = (
            f"the order given is wrong by its {given.told_by}: photographs are of lights {_listed([best])}{also} "
            "(does the y of the directions point up? then say --y-up)"
        )
    return CheckedOrder(holds=given.verdict in ("best", "untold"), summary=summary, orders=orders)


def order_table(checked: CheckedOrder) -> str:
    """All orders, a line each, and the summary."""
    verdicts = {"best": "best", "wrong": "wrong by its {}", "hollow": "of a hollow object", "untold": "not told"}
    lines = [f"{'lights of the images':22}{'residual':>10}{'curl':>8}{'convex':>8}{'sigma':>8}"]
    lines += [
        f"{_listed([each]):22}{each.residual:10.4f}{each.curl:8.3f}{100 * each.convex:6.0f} %{each.sigma:8.1f}  "
        + verdicts[each.verdict].format(each.told_by)
        for each in checked.orders
    ]
    return "\n".join([*lines, checked.summary])


def _listed(orders: Sequence[OrderScore]) -> str:
    return " or ".join(" ".join(map(str, each.order)) for each in orders)


def find_order(images: Sequence[F32] | F32, g: F64) -> list[OrderScore]:
    """All orders of the lights, the best first, then the likelier ones.

    `images` (n, h, w): brightness of a still object, or planes of web after the flat field; `g` (n, 3) or (n, 3, w):
    image = albedo n . g as it is thought to be (`Matrices.g`, or unit directions times intensities), x to the right, y
    down. Raises CalibrationError where there are other than 3 to `MOST_LIGHTS` lights, or too little is lit by all.
    """
    planes, matrix = _prepared(images, g)
    patches = _Patches(planes)
    orders = list(permutations(range(len(planes))))
    inverse = np.linalg.pinv(matrix.transpose(2, 0, 1)).transpose(1, 2, 0)
    measured = np.array([patches.measure(planes, matrix[list(o)], inverse[:, list(o)]) for o in orders])
    return _judged(orders, measured)


def _prepared(images: Sequence[F32] | F32, g: F64) -> tuple[F32, F64]:
    """Smoothed images of no more than `_MOST_PIXELS`, and g (n, 3, w) for their columns."""
    count, shapes = len(images), {image.shape for image in images}
    if not 3 <= count <= MOST_LIGHTS or count != len(g):
        raise CalibrationError(
            f"{count} images and {len(g)} lights: an order can be found for 3 to {MOST_LIGHTS}, an image a light"
        )
    if len(shapes) > 1:
        raise CalibrationError("images of several sizes: they must show the same view")
    height, width = images[0].shape
    factor = int(np.ceil(np.sqrt(max(1.0, height * width / _MOST_PIXELS))))
    size = max(1, width // factor), max(1, height // factor)
    planes = [
        cv2.GaussianBlur(cv2.resize(image, size, interpolation=cv2.INTER_AREA), (0, 0), _SMOOTHING_PX)
        for image in images
    ]
    columns = (np.arange(size[0]) * width) // size[0]
    per_column = g[:, :, columns] if g.ndim == 3 else np.repeat(g[:, :, None], size[0], axis=2)
    return np.stack(planes).astype(np.float32, copy=False), per_column


class _Patches:
    """Squares of the object, of which each is a witness: pixels by patch, those that all lights reach."""

    def __init__(self, planes: F32) -> None:
        brightest = planes.max(axis=0)
        lit = (planes.min(axis=0) > _LIT * brightest) & (brightest > _LIT * np.percentile(brightest, _OF_BRIGHT))
        reach = 2 * int(2 * _SMOOTHING_PX) + 1
        inner = cv2.erode(lit.astype(np.uint8), np.ones((reach, reach), np.uint8), borderValue=0)
        row, column = np.nonzero(inner[1:-1, 1:-1])
        side = max(int(np.sqrt(_LEAST_PATCH_PX)), int(np.sqrt(len(row) / _PATCHES)))
        patch = row // side * planes.shape[2] + column // side
        _, patch, sizes = np.unique(patch, return_inverse=True, return_counts=True)
        kept = np.flatnonzero((sizes >= _LEAST_PATCH_PX / 2)[patch])
        self._pixels = [(row[at], column[at]) for at in _groups(patch, kept)]
        if len(self._pixels) < _LEAST_PATCHES:
            raise CalibrationError(
                "too little of the object is lit under all lights to tell their order: it must fill more of the image, "
                "with nothing dark or saturated"
            )

    def measure(self, planes: F32, g: F64, inverse: F64) -> F64:
        """(3, patches): residual, curl and convexity under one order."""
        b = np.einsum("ikw,krw->irw", inverse, planes)
        rho = np.maximum(np.linalg.norm(b, axis=0), np.finfo(np.float32).tiny)
        residual = np.linalg.norm(planes - np.einsum("kiw,irw->krw", g, b), axis=0) / rho
        slope_x, slope_y = -b[:2] / np.maximum(b[2], _STEEPEST * rho)
        xx, xy, yx, yy = _along_x(slope_x), _along_y(slope_x), _along_x(slope_y), _along_y(slope_y)
        change = np.sqrt(xx**2 + xy**2 + yx**2 + yy**2)
        maps = np.stack([residual[1:-1, 1:-1], np.abs(xy - yx), change, xx + yy < 0])
        found = []
        for rows, columns in self._pixels:
            values = maps[:, rows, columns]
            middle = np.median(values[:3], axis=1)
            found.append((middle[0], middle[1] / max(middle[2], np.finfo(np.float32).tiny), values[3].mean()))
        return np.array(found).T


def _groups(label: NDArray[np.intp], kept: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """`kept` indices, by their label."""
    by_label = kept[np.argsort(label[kept], kind="stable")]
    return [group for group in np.split(by_label, np.flatnonzero(np.diff(label[by_label])) + 1) if group.size]


def _along_x(field: F64) -> F64:
    change: F64 = (field[1:-1, 2:] - field[1:-1, :-2]) / 2
    return change


def _along_y(field: F64) -> F64:
    change: F64 = (field[2:, 1:-1] - field[:-2, 1:-1]) / 2
    return change


def _judged(orders: list[tuple[int, ...]], measured: F64) -> list[OrderScore]:
    """`measured` (orders, 3, patches)."""
    logs = np.log(np.maximum(measured[:, :2], np.array([_LEAST_RESIDUAL, _LEAST_CURL])[:, None]))
    cost, convex = logs.sum(axis=1), measured[:, 2].mean(axis=1)
    worse, sigma = _against(cost, int(cost.mean(axis=1).argmin()))
    tied = (worse < _WORSE) | (sigma < _SURE)
    bulges = tied & (convex > _CONVEX)
    eligible = bulges if bulges.any() else tied
    best = 0 if eligible[0] else int(np.where(eligible, worse, np.inf).argmin())
    worse, sigma = _against(cost, best)
    clearest = (logs - logs[best]).mean(axis=2).argmax(axis=1)

    def verdict(k: int) -> tuple[Verdict, Literal["residual", "curl", "convexity", ""]]:
        if k == best:
            return "best", ""
        if not tied[k]:
            return "wrong", "curl" if clearest[k] else "residual"
        if bulges[best] and convex[k] < 1 - _CONVEX:
            return "hollow", "convexity"
        return "untold", ""

    means = measured.mean(axis=2)
    ranking = sorted(range(len(orders)), key=lambda k: (k != best, not tied[k], worse[k]))
    scores = []
    for k in ranking:
        said, by = verdict(k)
        residual, curl = float(means[k, 0]), float(means[k, 1])
        scores.append(
            OrderScore(
                order=orders[k],
                residual=residual,
                curl=curl,
                convex=float(convex[k]),
                worse=float(worse[k]),
                sigma=float(sigma[k]),
                verdict=said,
                told_by=by,
            )
        )
    return scores


def _against(cost: F64, one: int) -> tuple[F64, F64]:
    """How much worse the orders are than `one` of them, as a mean over patches, and that in standard errors."""
    excess = cost - cost[one]
    worse: F64 = excess.mean(axis=1)
    error = excess.std(axis=1, ddof=1) / np.sqrt(excess.shape[1])
    return worse, worse / np.maximum(error, 1e-9)
