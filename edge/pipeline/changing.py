"""Model and calibration change while web passes, each from one web row on; no row is lost, and none told twice."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from edge.core.calibration import Calibration
from edge.core.types import ClassMap
from edge.pipeline.lamp_watch import LampWatch
from edge.segmentation.model import ModelInfo
from edge.segmentation.network import WindowNetwork
from edge.surface.matrices import Matrices
from edge.surface.solver import Kernel, SurfaceSolver

Turned = Callable[[int], None]
"""Called with the first row of what has changed, when all is told of the rows before it and nothing from it on."""
_GEOMETRY = ("height", "width", "lights", "white", "pitch_mm", "transport_sign", "transport_angle_deg", "encoder_scale")
"""What must stay while web passes: rows lie, and millimetres are counted, by these."""


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A model made ready for the windows of a line: compiled, and tried."""

    info: ModelInfo
    network: WindowNetwork


@dataclass(frozen=True, eq=False)
class FittedCalibration:
    """A calibration with what it takes long to make of it."""

    calibration: Calibration
    solver: SurfaceSolver
    lamps: LampWatch

    @classmethod
    def of(cls, calibration: Calibration, kernel: Callable[[Matrices], Kernel]) -> Self:
        """Raises CalibrationError."""
        return cls(calibration, SurfaceSolver(calibration, kernel), LampWatch(calibration))


@dataclass(frozen=True, eq=False)
class Turn:
    """From `row` on something is another; `calibration`: where it is that."""

    row: int
    turned: Turned
    calibration: Calibration | None = None


def calibration_misfit(at_work: Calibration, other: Calibration) -> str | None:
    """Why a calibration cannot take the place of the one at work: None where it can."""
    for name in _GEOMETRY:
        ours, theirs = getattr(at_work, name), getattr(other, name)
        if theirs != ours:
            return f"{name} is {theirs}, that of the calibration at work {ours}"
    if (other.flat is None) != (at_work.flat is None):
        return "one of it and the calibration at work has no flat field"
    return None


def in_pieces(class_map: ClassMap, turns: list[Turn]) -> Iterator[tuple[list[Turn], ClassMap]]:
    """A class map cut where something turns in it, and what turns at the beginning of each piece, taken out of
    `turns`."""
    first, end = class_map.first_row, class_map.first_row + class_map.rows
    due = [turn for turn in turns if turn.row < end]
    turns[:] = [turn for turn in turns if turn.row >= end]
    for start, stop in pairwise([*sorted({first, *(turn.row for turn in due)}), end]):
        rows = slice(start - first, stop - first)
        piece = ClassMap(class_map.class_index[rows], class_map.score[rows], start, class_map.passed_over_px[rows])
        yield [turn for turn in due if turn.row == start], piece
