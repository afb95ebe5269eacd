"""Rolls of the throughput benchmark: each is in memory, taken by every way of inspecting in turn, and judged."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from benchmarks.rivals.eager import EagerRival
from edge.core.config import Config
from edge.core.types import F32, U8, ClassMap, Coverage, Frame
from edge.core.web_axes import WebAxes
from edge.defects.joiner import DefectJoiner
from edge.pipeline.inspection import Inspection
from edge.segmentation.backend import Backend
from edge.segmentation.model import ModelFile
from edge.service.matching import Heard, Score, compare
from edge.simulation.camera import StrobedCamera

Shapes = Counter[tuple[int, ...]]


class Counted:
    """A backend, and how many windows of which shape went through it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.name, self.precision = backend.name, backend.precision
        self.shapes: Shapes = Counter()

    def infer(self, surface: F32) -> tuple[U8, U8]:
        """See `Backend.infer`."""
        self.shapes[surface.shape] += 1
        return self._backend.infer(surface)


@dataclass
class Way:
    """What one way of inspecting took and found, roll by roll: seconds of the wall and of all processors, pixels that
    went through the network, halos included, and scores."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    network_px: int = 0
    scores: list[Score] = field(default_factory=list)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """The time of a roll."""
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        yield
        self.wall_s.append(time.perf_counter() - wall_s)
        self.cpu_s.append(time.process_time() - cpu_s)

    def found(self, rolls: int) -> dict[str, float | int | None]:
        """Recall and precision over the first rolls."""
        total = Score.total(self.scores[:rolls])
        return {
            "planted": total.planted,
            "events": total.events,
            "recall": total.object_recall,
            "precision": total.object_precision,
        }


class Roll:
    """A web of one density in memory, and what is planted in it."""

    def __init__(self, camera: StrobedCamera, model: ModelFile, config: Config) -> None:
        self.frames: Sequence[Frame] = list(camera.frames())
        self.calibration = camera.calibration
        self.mpix = camera.rows * camera.web.width_px / 1e6
        self._truth = camera.web.classes(0, camera.rows)
        self._model, self._config = model, config
        self._axes = WebAxes(camera.web.pitch_mm)
        self._not_inspected: list[Coverage] = []

    def line(self, way: Way, backend: Backend, *, gate: bool) -> Shapes:
        """The whole line; gives the windows its network had to look at."""
        counted, heard = Counted(backend), Heard()
        segmentation = msgspec.structs.replace(self._config.segmentation, gate=gate)
        config = msgspec.structs.replace(self._config, segmentation=segmentation)
        frames = [replace(frame) for frame in self.frames]  # nobody knows anything of them yet
        with Inspection(self.calibration, self._model.info, counted, config, heard.take) as inspection:
            counted.shapes.clear()  # windows were only tried
            with way.timed():
                for frame in frames:
                    inspection.push(frame)
                inspection.finish()
        way.network_px += sum(windows * shape[0] * shape[2] * shape[3] for shape, windows in counted.shapes.items())
        self._not_inspected = heard.not_inspected
        self._judge(way, heard)
        return counted.shapes

    def network(self, way: Way, backend: Backend, shapes: Shapes) -> None:
        """The network alone on as many windows of the same shapes, one after another."""
        noise = np.random.default_rng(1)
        windows = {shape: noise.normal(0, 0.2, shape).astype(np.float32) for shape in shapes}
        with way.timed():
            for shape, count in shapes.items():
                for _ in range(count):
                    backend.infer(windows[shape])

    def rival(self, way: Way, model: ModelFile) -> None:
        """What one would write instead, every core at its command. Its classes are made into events by the line's own
        rules, which it is given for nothing; it is spared rows that not every light saw, of which it makes defects."""
        rival = EagerRival(self.calibration, model, self._config.assembly.strip_rows)
        with way.timed():
            classes = rival.run(self.frames)
        for rows in self._not_inspected:
            classes[rows.from_row : rows.to_row] = 0
        joiner = DefectJoiner(self._model.info.classes, self._config.defects, self._axes, classes.shape[1])
        heard = Heard(not_inspected=self._not_inspected)
        heard.take(joiner.push(ClassMap(classes, np.full_like(classes, 255), 0)))
        heard.take(joiner.finish())
        self._judge(way, heard)

    def _judge(self, way: Way, heard: Heard) -> None:
        """Events against truth. Nobody asks what the network made of each pixel: the truth stands in for it."""
        classes, truth = self._model.info.classes, self._truth
        comparison = compare(heard, truth, truth, classes, self._config.defects, self._axes)
        way.scores.append(Score.total(comparison.scores.values()))
