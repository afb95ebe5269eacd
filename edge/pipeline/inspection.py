"""The stages in their order: frames go in, events come out."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge.assembly.assembler import Assembler, FrameCounts
from edge.core.calibration import Calibration
from edge.core.clock import monotonic_ns, utc_now
from edge.core.config import Config
from edge.core.types import Alarm, ClassMap, Coverage, Defect, Frame, Strip, Surface
from edge.defects.joiner import DefectJoiner
from edge.pipeline.ledger import Ledger, Totals
from edge.segmentation.backend import Backend
from edge.segmentation.model import ModelInfo
from edge.segmentation.stream import Segmenter
from edge.surface.solver import SurfaceSolver

PITCH_TOLERANCE = 0.05

_ALARMS = {
    "incomplete": "frames arrive incomplete",
    "no_position": "frames arrive without an encoder position",
    "dark": "a lamp did not fire",
    "other_light": "frames are lit by another light than they claim",
    "encoder_restarts": "the encoder went back by more than a frame: lengths from here on are estimated",
}
"""What a person is told when the count of that name in `FrameCounts` rises for the first time."""


@dataclass
class Watchers:
    """Who else looks at what passes between the stages; each is called with every item, in order."""

    surface: list[Callable[[Surface], None]] = field(default_factory=list)
    classes: list[Callable[[ClassMap], None]] = field(default_factory=list)


class Inspection:
    """One roll under inspection.

    `publish` gets event bodies as soon as they are known: rows of web are covered only after the defects in them. `notes` says what had to be assumed. Raises
    CalibrationError for frames that do not fit.
    """

    def __init__(
        self,
        calibration: Calibration,
        model: ModelInfo,
        backend: Backend,
        config: Config,
        publish: Callable[[Sequence[Defect | Coverage | Alarm]], None],
        watchers: Watchers | None = None,
    ) -> None:
        self.pitch_mm = calibration.pitch_mm or model.pitch_mm
        self.notes = list(_notes(calibration, model))
        self._publish = publish
        self._watchers = watchers or Watchers()
        self._assembler = Assembler(calibration, config.assembly.strip_rows, self.pitch_mm)
        self._solver = SurfaceSolver(calibration)
        self._segmenter = Segmenter(
            backend, model, calibration.width, config.assembly.strip_rows, config.segmentation.window_width_px
        )
        self._joiner = DefectJoiner(model.classes, config.defects, self.pitch_mm, calibration.width)
        self._ledger = Ledger(calibration, self.pitch_mm)
        self._told: set[str] = set()
        self._latencies_ms: list[float] = []
        self._read_ns = 0

    @property
    def frame_counts(self) -> FrameCounts:
        """What became of the frames."""
        return self._assembler.counts

    @property
    def totals(self) -> Totals:
        """What became of the web rows so far reported."""
        return self._ledger.totals

    @property
    def web_mm(self) -> float:
        """Length of web seen so far."""
        return self._assembler.web_rows * self.pitch_mm

    def push(self, frame: Frame) -> None:
        """Inspect what this frame completes."""
        self._read_ns = monotonic_ns()
        self._inspect(self._assembler.push(frame))
        self._emit(self._alarms(frame))

    def finish(self) -> None:
        """Inspect what is left and close the roll."""
        self._read_ns = monotonic_ns()
        self._inspect(self._assembler.finish())
        self._segmented(self._segmenter.finish())
        self._emit(self._joiner.finish())
        self._emit(self._ledger.finish())

    def latency_ms(self) -> dict[str, float]:
        """From the last frame read to an event published: p50, p99, p999 and max in ms, over all events."""
        if not self._latencies_ms:
            return {"p50": 0.0, "p99": 0.0, "p999": 0.0, "max": 0.0}
        p50, p99, p999, most = np.percentile(self._latencies_ms, [50, 99, 99.9, 100])
        return {"p50": float(p50), "p99": float(p99), "p999": float(p999), "max": float(most)}

    def _inspect(self, strips: Iterable[Strip]) -> None:
        for strip in strips:
            self._ledger.push(strip.lights_seen)
            surface = self._solver.solve(strip)
            for watch in self._watchers.surface:
                watch(surface)
            self._segmented(self._segmenter.push(surface))

    def _segmented(self, class_maps: Iterable[ClassMap]) -> None:
        for class_map in class_maps:
            for watch in self._watchers.classes:
                watch(class_map)
            self._emit(self._joiner.push(class_map))
            self._emit(self._ledger.decide(class_map.rows))

    def _alarms(self, frame: Frame) -> list[Alarm]:
        risen = [kind for kind in _ALARMS if kind not in self._told and getattr(self._assembler.counts, kind)]
        self._told.update(risen)
        where = f"first seen at frame {frame.frame_id} of light {frame.light}, {frame.encoder_mm:.1f} mm"
        return [Alarm(kind=kind, since=utc_now(), detail=f"{_ALARMS[kind]}, {where}") for kind in risen]

    def _emit(self, bodies: Sequence[Defect | Coverage | Alarm]) -> None:
        if bodies:
            self._publish(bodies)
            self._latencies_ms += [(monotonic_ns() - self._read_ns) / 1e6] * len(bodies)


def _notes(calibration: Calibration, model: ModelInfo) -> Iterable[str]:
    if calibration.pitch_mm is None:
        yield f"pitch of the images is unknown: taken as the model's {model.pitch_mm} mm, sizes are in its scale"
    elif abs(calibration.pitch_mm / model.pitch_mm - 1) > PITCH_TOLERANCE:
        yield f"pitch is {calibration.pitch_mm} mm, the model was trained at {model.pitch_mm} mm"
