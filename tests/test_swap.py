"""Model and calibration changed while web passes: which rows are whose, to the row, and a shadow that only counts."""

import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import msgspec
import numpy as np
import pytest
from test_pipeline import CALIBRATION, CONFIG, MODEL, Body, DarkIsBad, frames_of

from edge.core.calibration import Calibration
from edge.core.errors import CalibrationError, ModelError
from edge.core.types import F32, U8, ClassMap, Coverage, Defect, Frame, Surface
from edge.defects.comparing import Comparison
from edge.pipeline.inspection import Inspection, Watchers
from edge.pipeline.shadow import Shadow
from edge.segmentation.backend import Backend

FRAMES = frames_of(900, seed=5, lost=range(60, 66))
FLAT = np.full((CALIBRATION.lights, CALIBRATION.height, CALIBRATION.width), 180, np.float32)
WITH_FLAT = replace(CALIBRATION, dark=FLAT * 0, flat=FLAT)


class WideDark:
    """Calls class 1 what lies within 15 px of a dark pixel: all of its halo counts."""

    name, precision = "wide dark", "f32"

    def infer(self, surface: F32) -> tuple[U8, U8]:
        dark = (surface[0, 0] < 0.5).astype(np.uint8)
        wide = cv2.dilate(dark, np.ones((31, 31), np.uint8))[None]
        return wide, wide * np.uint8(200)


class Fails:
    name, precision = "fails", "f32"

    def infer(self, surface: F32) -> tuple[U8, U8]:
        raise ModelError("network.onnx: cannot be executed")


class Told:
    """What was published, with what has changed in its place, and what passed between the stages."""

    def __init__(self) -> None:
        self.items: list[Body | int] = []
        self.classes: list[U8] = []
        self.albedo: list[F32] = []
        self.watchers = Watchers(surface=[self._surface], classes=[self._classes])

    def publish(self, bodies: Sequence[Body]) -> None:
        self.items += bodies

    def turned(self, row: int) -> None:
        self.items.append(row)

    def _classes(self, class_map: ClassMap) -> None:
        self.classes.append(class_map.class_index.copy())

    def _surface(self, surface: Surface) -> None:
        self.albedo.append(surface.albedo.copy())

    @property
    def row(self) -> int:
        """Where something has changed."""
        (row,) = (item for item in self.items if isinstance(item, int))
        return row

    def assert_exact(self, rows: int) -> None:
        """Every row is covered once, and what changed was told between the rows before it and those behind."""
        covered = [item for item in self.items if isinstance(item, Coverage)]
        assert [each.from_row for each in covered] == [0, *(each.to_row for each in covered[:-1])]
        assert covered[-1].to_row == rows
        at = self.items.index(self.row)
        assert [each.to_row for each in self.items[:at] if isinstance(each, Coverage)][-1] == self.row
        assert next(each.from_row for each in self.items[at:] if isinstance(each, Coverage)) == self.row


def inspected(
    frames: Sequence[Frame],
    backend: Backend | None = None,
    calibration: Calibration = CALIBRATION,
    at: Callable[[Inspection, Told], None] = lambda *_: None,
) -> Told:
    """All that passed; `at` is called in the middle of the web."""
    told = Told()
    with Inspection(calibration, MODEL, backend or DarkIsBad(), CONFIG, told.publish, told.watchers) as inspection:
        for index, frame in enumerate(frames):
            if index == len(frames) // 2:
                at(inspection, told)
            inspection.push(frame)
        inspection.finish()
    return told


def test_another_model_decides_from_a_row_on_as_if_it_had_seen_the_whole_web() -> None:
    def swap(inspection: Inspection, told: Told) -> None:
        smaller = msgspec.structs.replace(MODEL, thresholds=[0.9])
        inspection.use_model(inspection.fit_model(smaller, WideDark()), told.turned)

    told = inspected(FRAMES, at=swap)
    before, behind = (np.vstack(inspected(FRAMES, backend).classes) for backend in (DarkIsBad(), WideDark()))
    told.assert_exact(len(before))
    got = np.vstack(told.classes)
    assert (got[: told.row] == before[: told.row]).all()
    assert (got[told.row :] == behind[told.row :]).all()
    assert (before[told.row :] != behind[told.row :]).any()
    assert 200 < told.row < 700
    opened = [item.id for item in told.items if isinstance(item, Defect) and item.phase == "opened"]
    assert opened == list(range(1, len(opened) + 1))


def test_another_calibration_solves_from_a_row_on() -> None:
    brighter = replace(WITH_FLAT, flat=FLAT * np.float32(1.1))

    def swap(inspection: Inspection, told: Told) -> None:
        inspection.use_calibration(inspection.fit_calibration(brighter), told.turned)

    told = inspected(FRAMES, None, WITH_FLAT, swap)
    before, behind = (np.vstack(inspected(FRAMES, None, each).albedo) for each in (WITH_FLAT, brighter))
    told.assert_exact(len(before))
    got = np.vstack(told.albedo)
    assert (got[: told.row] == before[: told.row]).all()
    assert (got[told.row :] == behind[told.row :]).all()


def test_what_is_swapped_back_before_it_was_used_is_never_told() -> None:
    def swap(inspection: Inspection, told: Told) -> None:
        inspection.use_model(inspection.fit_model(MODEL, WideDark()), lambda row: told.turned(-row))
        inspection.use_model(inspection.fit_model(MODEL, DarkIsBad()), told.turned)

    told = inspected(FRAMES, at=swap)
    assert told.row > 0
    assert (np.vstack(told.classes) == np.vstack(inspected(FRAMES).classes)).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"classes": ["web", "light"]}, "classes are web, light, those of the model at work web, dark"),
        ({"channels": ["normal_x"]}, "channels are normal_x"),
        ({"halo": 32}, "halo 32 and grid 16 do not fit"),
        ({"grid": 32, "halo": 0}, "grid 32"),
    ],
)
def test_a_model_for_other_windows_is_refused_and_the_old_one_goes_on(change: dict[str, object], reason: str) -> None:
    def swap(inspection: Inspection, _told: Told) -> None:
        with pytest.raises(ModelError, match=reason):
            inspection.fit_model(msgspec.structs.replace(MODEL, **change), WideDark())

    assert inspected(FRAMES[:80], at=swap).items == inspected(FRAMES[:80]).items


def test_a_model_that_cannot_be_executed_is_refused() -> None:
    def swap(inspection: Inspection, _told: Told) -> None:
        with pytest.raises(ModelError, match=r"network\.onnx"):
            inspection.fit_model(MODEL, Fails())

    inspected(FRAMES[:20], at=swap)


@pytest.mark.parametrize("change", [{"pitch_mm": 0.06}, {"white": 250.0}, {"encoder_scale": 1.01}, {"flat": FLAT}])
def test_a_calibration_of_another_geometry_is_refused(change: dict[str, object]) -> None:
    other = replace(WITH_FLAT if "flat" in change else CALIBRATION, **change)

    def swap(inspection: Inspection, _told: Told) -> None:
        with pytest.raises(CalibrationError, match=next(iter(change)).replace("flat", "flat field")):
            inspection.fit_calibration(other)

    inspected(FRAMES[:20], at=swap)


def shadowed(backend: Backend, has_time: Callable[[], bool]) -> tuple[Told, Shadow]:
    shadows: list[Shadow] = []

    def begin(inspection: Inspection, _told: Told) -> None:
        compare = Comparison(MODEL.classes, CONFIG.defects, 0.05)
        inspection.shadow = Shadow(inspection.fit_model(MODEL, backend), compare, has_time)
        shadows.append(inspection.shadow)

    told = inspected(FRAMES, at=begin)
    shadows[0].close()
    return told, shadows[0]


class Waiting(WideDark):
    """Waits for the line to be through with three more strips."""

    def __init__(self) -> None:
        self.may = threading.Event()

    def infer(self, surface: F32) -> tuple[U8, U8]:
        if threading.current_thread().name == "shadow":
            assert self.may.wait(20)
        return super().infer(surface)


def test_a_shadow_that_is_late_leaves_strips_out_and_the_line_never_waits() -> None:
    backend = Waiting()
    releasing = threading.Timer(0.5, backend.may.set)
    releasing.start()
    told, shadow = shadowed(backend, lambda: True)
    releasing.join()
    assert told.items == inspected(FRAMES).items
    assert shadow.counts.left_out > 0
    assert shadow.counts.compared > 0
    assert shadow.counts.both + shadow.counts.only_live + shadow.counts.only_shadow > 0


def test_a_shadow_for_which_there_is_no_time_compares_nothing() -> None:
    _, shadow = shadowed(DarkIsBad(), lambda: False)
    assert (shadow.counts.compared, shadow.counts.left_out > 5) == (0, True)


def test_what_fails_in_the_shadow_stays_there() -> None:
    class FailsLater(DarkIsBad):
        def infer(self, surface: F32) -> tuple[U8, U8]:
            if threading.current_thread().name == "shadow":
                raise RuntimeError("out of memory")
            return super().infer(surface)

    told, shadow = shadowed(FailsLater(), lambda: True)
    assert shadow.problem == "RuntimeError: out of memory"
    assert told.items == inspected(FRAMES).items


def test_a_shadow_that_finds_the_same_differs_in_nothing() -> None:
    _, shadow = shadowed(DarkIsBad(), lambda: True)
    counts = shadow.counts
    assert counts.both > 0
    assert (counts.only_live, counts.only_shadow) == (0, 0)


def test_objects_of_two_maps_are_counted_by_whether_they_meet() -> None:
    first, second = np.zeros((2, 12, 20), np.uint8)
    first[0:3, 0:3] = 1  # in both, elsewhere beside it
    second[2:6, 2:6] = 1
    first[8:11, 0:3] = 1  # of the first alone
    second[8:11, 10:13] = 1  # of the second alone
    second[0:3, 15:18] = 1  # of another class than that of the first, there
    first[0:3, 15:18] = 2
    first[11, 19] = 1  # too small to count
    score = np.full((12, 20), 255, np.uint8)
    rules = msgspec.structs.replace(CONFIG.defects, default=type(CONFIG.defects.default)(min_area_mm2=9 * 0.05**2))
    compare = Comparison(["web", "dark", "bright"], rules, 0.05)
    assert compare(ClassMap(first, score, 0), ClassMap(second, score, 0)) == (1, 2, 2)


LET_GO = """
import os, signal, threading
from edge.segmentation.model import load_model
from edge.segmentation.openvino import OpenVinoBackend
signal.signal(signal.SIGTERM, lambda *_: print("told to stop"))
held = [OpenVinoBackend(load_model(None))]
letting_go = threading.Thread(target=held.clear)
letting_go.start()
letting_go.join()
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_line_that_has_let_go_of_a_model_can_still_be_told_to_stop() -> None:
    """OpenVINO takes a stack for signals away from the thread that made a core when the core goes, wherever it goes."""
    done = subprocess.run([sys.executable, "-c", LET_GO], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "told to stop\n")
