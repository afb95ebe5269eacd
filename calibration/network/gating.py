"""`foilsight gate`: the threshold of the gate in front of the network, learnt on rendered webs for a stated recall.

What the network itself finds is what must pass: a component of its class map, large enough to be reported, at least
half of it in truth of its class. It passes whole where every pixel of it lies in a marked cell or beside one, so
the least score around its pixels is the largest threshold that still lets it through.

A web counts as no smoother than a floor: on smooth ones defects stand out far more than they need to, and what little
else they show would be looked at for nothing. The floor is the highest that costs the threshold nothing.
"""

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge.core.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge.core.types import F32, U8
    from edge.segmentation.backend import Backend
    from edge.segmentation.model import GateInfo, ModelFile, ModelInfo

FIRST_GATE_SEED = 40_000
"""Seeds from here on are rendered for learning the gate."""
TRUE_SHARE = 0.5
FLOORS = (0.0, 0.25, 0.5, 0.6, 0.7, 0.8)
"""Of the webs' noise, the shares that may lie below the floor."""
LEAST_NOISE, LARGEST_NOISE = 1e-6, 1e6


def gate(
    model: Path,
    out: Path,
    *,
    recall: float = 0.9995,
    webs: int = 24,
    length_mm: float = 60.0,
    width_px: int = 1024,
) -> int:
    """Write a model with a gate, which passes over web that needs no network; `gate = true` uses it.

    Parameters
    ----------
    model
        Model written by `train` or `export` (ONNX); it is left as it is unless OUT is the same.
    out
        Model to write (ONNX).
    recall
        Share of the objects the network finds that the gate must let through whole.
    webs
        Rendered webs to learn on, each of another machine.
    length_mm
        Length of each web.
    width_px
        Width of each web.
    """
    from calibration.network.commands import check_writable, require_torch

    require_torch()
    import msgspec
    import onnx

    from calibration.network.quantise import check_classes, write_info
    from calibration.network.rendered import render_webs
    from edge.segmentation.model import load_model

    if not 0 < recall <= 1 or webs < 1:
        raise ConfigError("--recall must be above 0 and no more than 1, --webs 1 or more")
    check_writable(out)
    source = load_model(model)
    check_classes(source)
    seeds = range(FIRST_GATE_SEED, FIRST_GATE_SEED + webs)
    learnt = learn(source, render_webs(seeds, length_mm, width_px, source.info.channels), recall)
    provenance = {**source.info.provenance, "gate": "foilsight " + shlex.join(sys.argv[1:])}
    info = msgspec.structs.replace(source.info, gate=learnt, provenance=provenance)
    write_info(out, onnx.load_from_string(source.data), info)
    print(
        f"{out}: the gate lets {100 * learnt.recall:.2f} % of {learnt.objects} objects through whole "
        f"at a threshold of {learnt.threshold:.1f}"
    )
    return 0


def learn(model: "ModelFile", webs: "Sequence[tuple[F32, U8]]", recall: float) -> "GateInfo":
    """A gate for a model from webs as `render_webs` gives them. Raises ConfigError where it finds nothing in them."""
    import numpy as np

    from edge.segmentation.openvino import OpenVinoBackend

    backend = OpenVinoBackend(model)
    anything = np.tile(np.array([LEAST_NOISE, LARGEST_NOISE], np.float32), (len(model.info.channels), 1))
    noises = [np.median(cell_scores(planes, anything)[1], axis=0) for planes, _ in webs]
    found = [decided(backend, planes, model.info.grid) for planes, _ in webs]
    best: GateInfo | None = None
    for share in FLOORS:
        bounds = np.stack([np.quantile(noises, share, axis=0), np.max(noises, axis=0)], axis=1)
        passing = [
            score
            for (planes, truth), classes in zip(webs, found, strict=True)
            for score in objects(classes, truth, cell_scores(planes, bounds)[0], model.info)
        ]
        learnt = _gate_of(np.sort(passing), recall, bounds)
        if best is None or learnt.threshold >= 0.99 * best.threshold:
            best = learnt
    assert best is not None
    return best


def _gate_of(passing: "NDArray[np.float64]", recall: float, bounds: "NDArray[np.float64]") -> "GateInfo":
    """The largest threshold for a recall; `passing`: the largest that lets each object through, in order."""
    from edge.segmentation.model import GateInfo

    if not len(passing):
        raise ConfigError("the network finds nothing in the webs to learn on: take longer ones, or more")
    least = float(passing[int((1 - recall) * len(passing))])
    return GateInfo(
        threshold=round(0.99 * least, 2),
        noise=[(float(low), float(high)) for low, high in bounds],
        recall=float((passing >= least).mean()),
        objects=len(passing),
    )


def cell_scores(planes: "F32", bounds: "F32") -> "tuple[F32, F32]":
    """Of a web (channels, h, w): scores (rows of cells, cells), and the noise by then (rows of cells, channels)."""
    import numpy as np

    from edge.segmentation.gate import CellScores
    from edge.segmentation.windows import CELL

    cells = CellScores(bounds, planes.shape[2])
    scores, noise = [], []
    for top in range(0, planes.shape[1], CELL):
        scores.append(cells.score(planes, top, planes.shape[1], True).copy())
        noise.append(cells.noise.copy())
    return np.array(scores), np.array(noise)


def decided(backend: "Backend", planes: "F32", grid: int) -> "U8":
    """Class map (h, w) u8 of a whole web at once."""
    import numpy as np

    _, rows, width = planes.shape
    padded = np.pad(planes, ((0, 0), (0, -rows % grid), (0, -width % grid)), mode="edge")
    return backend.infer(padded[None])[0][0, :rows, :width].copy()


def objects(found: "U8", truth: "U8", scores: "F32", info: "ModelInfo") -> "Iterator[float]":
    """Of each true object in a class map: the least score that a pixel of it has in its cell or one beside it."""
    import cv2
    import numpy as np

    from edge.core.config import DefectsConfig
    from edge.segmentation.windows import CELL

    around = cv2.dilate(scores, np.ones((3, 3), np.uint8))
    for index, label in enumerate(info.classes[1:], start=1):
        count, labels, stats, _ = cv2.connectedComponentsWithStats((found == index).astype(np.uint8), connectivity=8)
        for number in range(1, count):
            left, top, width, height, area = (int(figure) for figure in stats[number])
            if area * info.pitch_mm**2 < DefectsConfig().rule(label).min_area_mm2:
                continue
            rows, columns = np.nonzero(labels[top : top + height, left : left + width] == number)
            rows, columns = rows + top, columns + left
            if np.mean(truth[rows, columns] == index) >= TRUE_SHARE:
                yield float(around[rows // CELL, columns // CELL].min())
