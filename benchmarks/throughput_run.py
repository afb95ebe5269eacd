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
from edge.segmentation.backend import RowBackend, RowByRow
from edge.segmentation.model import ModelFile
from edge.segmentation.windows import padded_length, plan_axis
from edge.service.matching import Heard, Score, compare
from edge.simulation.camera import StrobedCamera


@dataclass
class Shown:
    """How many windows of which shape a network was shown, and how often new rows of which."""

    windows: Counter[tuple[int, ...]] = field(default_factory=Counter)
    rows: Counter[tuple[int, ...]] = field(default_factory=Counter)

    @property
    def pixels(self) -> int:
        """Of them all, halos included."""
        shapes = [*self.windows.items(), *self.rows.items()]
        return sum(count * shape[0] * shape[2] * shape[3] for shape, count in shapes)


class Counted:
    """A backend, and what was `shown` to it."""

    def __init__(self, backend: RowBackend) -> None:
        self._backend = backend
        self.name, self.precision = backend.name, backend.precision
        self.shown = Shown()

    def infer(self, surface: F32) -> tuple[U8, U8]:
        """See `Backend.infer`."""
        self.shown.windows[surface.shape] += 1
        return self._backend.infer(surface)

    def row_by_row(self, shape: tuple[int, int, int, int], behind: int) -> RowByRow | None:
        """See `RowBackend.row_by_row`."""
        made = self._backend.row_by_row(shape, behind)
        return None if made is None else _CountedRows(made, self)


@dataclass
class _CountedRows:
    rows: RowByRow
    counted: Counted

    def begin(self) -> None:
        self.rows.begin()

    def push(self, surface: F32) -> tuple[U8, U8]:
        self.counted.shown.rows[surface.shape] += 1
        return self.rows.push(surface)


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

    def line(self, way: Way, backend: RowBackend, *, gate: bool) -> Shown:
        """The whole line; gives what its network was shown."""
        counted, heard = Counted(backend), Heard()
        segmentation = msgspec.structs.replace(self._config.segmentation, gate=gate)
        config = msgspec.structs.replace(self._config, segmentation=segmentation)
        frames = [replace(frame) for frame in self.frames]  # nobody knows anything of them yet
        with Inspection(self.calibration, self._model.info, counted, config, heard.take) as inspection:
            counted.shown = Shown()  # before, windows were only tried
            with way.timed():
                for frame in frames:
                    inspection.push(frame)
                inspection.finish()
        way.network_px += counted.shown.pixels
        self._not_inspected = heard.not_inspected
        self._judge(way, heard)
        return counted.shown

    def network(self, way: Way, backend: RowBackend, shown: Shown) -> None:
        """The network alone on as much of the same shapes, one after another."""
        noise = np.random.default_rng(1)
        shapes = [*shown.windows, *shown.rows]
        surfaces = {shape: noise.normal(0, 0.2, shape).astype(np.float32) for shape in shapes}
        rows = {shape: backend.row_by_row(shape, self._model.info.halo) for shape in shown.rows}
        with way.timed():
            for shape, count in shown.windows.items():
                for _ in range(count):
                    backend.infer(surfaces[shape])
            for shape, count in shown.rows.items():
                row_by_row = rows[shape]
                assert row_by_row is not None
                for _ in range(count):
                    row_by_row.push(surfaces[shape])

    def in_windows(self) -> Shown:
        """What a network is shown that sees every strip with all its halo."""
        info, (rows, width) = self._model.info, self._truth.shape
        window_rows = self._config.assembly.strip_rows + 2 * info.halo
        down, across = (
            plan_axis(padded_length(length, info.grid), window, info.halo, info.grid)
            for length, window in ((rows, window_rows), (width, self._config.segmentation.window_width_px))
        )
        shape = (1, len(info.channels), down[0].stop - down[0].start, across[0].stop - across[0].start)
        return Shown(windows=Counter({shape: len(down) * len(across)}))

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
