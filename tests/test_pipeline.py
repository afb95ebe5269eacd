"""Stages side by side: the events of a serial run in their order, errors that reach the caller, threads that end."""

import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_assembly import PITCH_MM, calibration_of

from edge.assembly.assembler import Assembler
from edge.core.config import AssemblyConfig, ClassRule, Config, DefectsConfig
from edge.core.errors import CalibrationError, EventsError, ModelError
from edge.core.types import F32, U8, Alarm, ClassMap, Coverage, Defect, Frame
from edge.core.web_axes import WebAxes
from edge.defects.joiner import DefectJoiner
from edge.pipeline.inspection import PASSAGES, Inspection, Watchers
from edge.pipeline.latency import Latencies
from edge.pipeline.ledger import Ledger
from edge.segmentation.model import ModelInfo, load_model
from edge.segmentation.openvino import OpenVinoBackend
from edge.segmentation.stream import Segmenter
from edge.surface.solver import SurfaceSolver

HEIGHT, WIDTH, STRIP_ROWS, ADVANCE = 32, 64, 32, 4
CALIBRATION = calibration_of(HEIGHT, WIDTH)
MODEL = ModelInfo(classes=["web", "dark"], channels=["albedo"], pitch_mm=PITCH_MM, grid=16, halo=16, thresholds=[0.5])
CONFIG = Config(
    assembly=AssemblyConfig(strip_rows=STRIP_ROWS), defects=DefectsConfig(default=ClassRule(min_area_mm2=0.01))
)

Body = Defect | Coverage | Alarm


class DarkIsBad:
    """Calls dark pixels class 1. `before` is called with the number of each window before it is decided."""

    name, precision = "dark", "f32"

    def __init__(self, before: Callable[[int], None] = lambda number: None) -> None:
        self.windows = 0
        self._before = before

    def infer(self, surface: F32) -> tuple[U8, U8]:
        self._before(self.windows)
        self.windows += 1
        dark = surface[:, 0] < 0.5
        return dark.astype(np.uint8), np.where(dark, 255, 0).astype(np.uint8)


def frames_of(rows: int, seed: int = 1, lost: Sequence[int] = (), repeated: Sequence[int] = ()) -> list[Frame]:
    """Frames of a bright web with dark flecks, some of them long."""
    random = np.random.default_rng(seed)
    web = np.full((rows, WIDTH), 200, np.uint8)
    for top, left, length in random.integers((0, 0, 1), (rows, WIDTH, 90), (rows // 12, 3)):
        web[top : top + length, left : left + 3] = 20
    offsets = range(0, rows - HEIGHT + 1, ADVANCE)
    frames = [
        Frame(web[row : row + HEIGHT], k % 4, k, row * PITCH_MM, k, 1.0, complete=k not in repeated)
        for k, row in enumerate(offsets)
    ]
    return [frame for frame in frames if frame.frame_id not in lost]


def serial(frames: Sequence[Frame], watchers: Watchers | None = None) -> list[Body]:
    """The events of the stages called one after another, without alarms."""
    watchers = watchers or Watchers()
    assembler, solver = Assembler(CALIBRATION, STRIP_ROWS, PITCH_MM), SurfaceSolver(CALIBRATION)
    segmenter = Segmenter(DarkIsBad(), MODEL, WIDTH, STRIP_ROWS, CONFIG.segmentation.window_width_px)
    joiner, ledger = (
        DefectJoiner(MODEL.classes, CONFIG.defects, WebAxes(PITCH_MM), WIDTH),
        Ledger(CALIBRATION, PITCH_MM),
    )
    bodies: list[Body] = []

    def decided(class_maps: Sequence[ClassMap]) -> None:
        for class_map in class_maps:
            for watch in watchers.classes:
                watch(class_map)
            bodies.extend([*joiner.push(class_map), *ledger.decide(class_map.rows)])

    for strips in [*(assembler.push(frame) for frame in frames), assembler.finish()]:
        for strip in strips:
            ledger.push(strip.lights_seen)
            surface = solver.solve(strip)
            for watch in watchers.surface:
                watch(surface)
            decided(segmenter.push(surface))
    decided(segmenter.finish())
    return [*bodies, *joiner.finish(), *ledger.finish()]


class Told:
    """What was published, in order; `before` is called before it is taken."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.bodies: list[Body] = []
        self._before = before

    def __call__(self, bodies: Sequence[Body]) -> None:
        self._before()
        self.bodies += bodies


def inspection_of(
    told: Callable[[Sequence[Body]], None], backend: DarkIsBad | None = None, watchers: Watchers | None = None
) -> Inspection:
    return Inspection(CALIBRATION, MODEL, backend or DarkIsBad(), CONFIG, told, watchers)


def run(inspection: Inspection, frames: Sequence[Frame]) -> None:
    with inspection:
        for frame in frames:
            inspection.push(frame)
        inspection.finish()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before, threading.enumerate()


def dozing(seed: int) -> Callable[..., None]:
    """Sleeps a little, now and then longer."""
    random = np.random.default_rng(seed)
    return lambda *_: time.sleep(random.choice([0, 0, 0.001, 0.01]))


@pytest.mark.parametrize("seed", range(4))
def test_events_are_those_of_the_stages_one_after_another(seed: int) -> None:
    """Whichever stage is the slow one, and with web that was not seen."""
    frames = frames_of(1500, seed, lost=range(100, 108))
    expected = serial(frames)
    watchers = Watchers(surface=[dozing(seed)] if seed == 2 else [])
    told = Told(dozing(seed) if seed == 1 else lambda: None)
    inspection = inspection_of(told, DarkIsBad(dozing(seed) if seed == 0 else lambda number: None), watchers)
    run(inspection, frames)
    assert told.bodies == expected
    assert inspection.totals.rows == 1500
    assert {type(body) for body in expected} == {Defect, Coverage}


def test_an_alarm_has_its_place_among_the_events() -> None:
    frames = frames_of(900, repeated=[60])
    runs = [Told(dozing(1)), Told()]
    for told in runs:
        run(inspection_of(told), frames)
    first, second = ([body.kind if isinstance(body, Alarm) else body for body in told.bodies] for told in runs)
    assert first == second
    assert "incomplete" in first[1:-1]


def test_rows_are_covered_after_the_defects_in_them() -> None:
    decided = 0
    seen_at: list[tuple[Body, int]] = []

    def look(class_map: ClassMap) -> None:
        nonlocal decided
        decided = class_map.first_row + class_map.rows

    def hear(bodies: Sequence[Body]) -> None:
        seen_at.extend((body, decided) for body in bodies)

    run(inspection_of(hear, watchers=Watchers(classes=[look])), frames_of(5000))
    covered = 0
    for body, decided_then in seen_at:
        if isinstance(body, Coverage):
            covered = body.to_row
            assert covered <= decided_then
        elif isinstance(body, Defect) and body.phase == "opened":
            assert body.box_mm[3] > covered * PITCH_MM, "it lies in rows that had been called inspected before"
    assert covered == 5000


def failing_at(number: int, error: Exception) -> Callable[[int], None]:
    def fail(window: int) -> None:
        if window == number:
            raise error

    return fail


@pytest.mark.parametrize("window", [0, 3, 17])
def test_a_network_that_fails_is_told_and_covers_nothing(window: int) -> None:
    """What was decided before is published; nothing after it is, least of all that web is free of defects."""
    frames = frames_of(1500)
    decided = []
    told = Told(dozing(window))
    watchers = Watchers(classes=[lambda class_map: decided.append(class_map.first_row + class_map.rows)])
    inspection = inspection_of(told, DarkIsBad(failing_at(window, ModelError("window broke"))), watchers)
    with pytest.raises(ModelError, match="window broke"):
        run(inspection, frames)
    with pytest.raises(ModelError, match="window broke"):
        inspection.push(frames[-1])
    with pytest.raises(ModelError, match="window broke"):
        inspection.finish()
    assert len(decided) == window
    assert told.bodies == serial(frames)[: len(told.bodies)]
    assert inspection.totals.rows <= (decided[-1] if decided else 0)
    assert inspection.totals.rows < 1500


def test_an_error_at_the_very_end_is_raised_by_finish() -> None:
    backend = DarkIsBad()
    run(inspection_of(Told(), backend), frames_of(400))
    inspection = inspection_of(Told(), DarkIsBad(failing_at(backend.windows - 1, ModelError("last window"))))
    for frame in frames_of(400):
        inspection.push(frame)
    with pytest.raises(ModelError, match="last window"):
        inspection.finish()


@pytest.mark.parametrize("stage", ["publish", "surface", "classes"])
def test_an_error_behind_the_network_reaches_the_caller(stage: str) -> None:
    calls = 0

    def full(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise EventsError("disk is full")

    watchers = Watchers(surface=[full] * (stage == "surface"), classes=[full] * (stage == "classes"))
    backend = DarkIsBad()
    inspection = inspection_of(Told(full) if stage == "publish" else Told(), backend, watchers)
    with pytest.raises(EventsError, match="disk is full"):
        run(inspection, frames_of(3000))
    assert calls == 5, "nothing is published behind an error"
    assert backend.windows < 3000 // STRIP_ROWS // 2, "the stages ahead of it end too"


def test_a_frame_that_does_not_fit_ends_the_inspection() -> None:
    frames = frames_of(600)
    told = Told()
    inspection = inspection_of(told)
    for frame in frames[:60]:
        inspection.push(frame)
    with pytest.raises(CalibrationError):
        inspection.push(Frame(np.zeros((8, 8), np.uint8), 0, 60, 10.0, 0, 1.0))
    with pytest.raises(ValueError, match="ended"):
        inspection.push(frames[61])
    assert told.bodies == serial(frames)[: len(told.bodies)]


def test_leaving_the_block_ends_the_threads_whatever_happens() -> None:
    told = Told()
    with pytest.raises(KeyboardInterrupt), inspection_of(told) as inspection:
        for frame in frames_of(600)[:100]:
            inspection.push(frame)
        raise KeyboardInterrupt
    assert told.bodies, "what was complete has been published"
    inspection.close()
    with pytest.raises(ValueError, match="ended"):
        inspection.finish()


def test_leaving_the_block_early_does_not_hide_an_error() -> None:
    def fail_late(window: int) -> None:
        time.sleep(0.2)
        raise ModelError("first window")

    with pytest.raises(ModelError, match="first window"), inspection_of(Told(), DarkIsBad(fail_late)) as inspection:
        for frame in frames_of(112):
            inspection.push(frame)
        pushed_all = True
    assert pushed_all


def test_no_more_is_under_way_than_there_are_passages() -> None:
    """A network that stands still stops the line's reading, and its delay is in the latency."""
    gate = threading.Event()
    surfaces = []
    frames = frames_of(2000)
    pushed = 0
    watchers = Watchers(surface=[lambda surface: surfaces.append(surface.first_row)])
    told = Told()
    inspection = inspection_of(told, DarkIsBad(lambda number: assert_set(gate)), watchers)

    def push_all() -> None:
        nonlocal pushed
        for frame in frames:
            inspection.push(frame)
            pushed += 1
        inspection.finish()

    def assert_set(event: threading.Event) -> None:
        assert event.wait(30)

    pusher = threading.Thread(target=push_all)
    started = time.perf_counter()
    pusher.start()
    time.sleep(0.5)
    assert pushed * ADVANCE < (PASSAGES + 4) * STRIP_ROWS, "strips under way, two in the first window, one in a frame"
    assert not told.bodies
    gate.set()
    waited_ms = 1e3 * (time.perf_counter() - started)
    pusher.join(30)
    assert told.bodies == serial(frames)
    assert inspection.latency_ms()["max"] >= 0.5 * waited_ms
    assert inspection.latency_ms()["p50"] < 0.5 * waited_ms, "only what waited was late"
    assert surfaces == list(range(0, 2000, STRIP_ROWS))


def looking(into: list[np.ndarray], for_s: float) -> Watchers:
    """Keeps copies of all planes, and fails where they change while it looks."""

    def look(*planes: np.ndarray) -> None:
        into.extend(plane.copy() for plane in planes)
        time.sleep(for_s)
        for plane, kept in zip(planes, into[-len(planes) :], strict=True):
            np.testing.assert_array_equal(plane, kept)

    return Watchers(
        surface=[lambda surface: look(surface.normals, surface.albedo, surface.residual, surface.valid)],
        classes=[lambda class_map: look(class_map.class_index, class_map.score)],
    )


def test_what_watchers_are_shown_is_right_and_stays_as_it_is_while_they_look() -> None:
    """Strips and class maps lie in memory that goes round, the short ones at the end of the roll too."""
    frames = frames_of(1500)
    shown: list[np.ndarray] = []
    expected: list[np.ndarray] = []
    run(inspection_of(Told(), watchers=looking(shown, 0.01)), frames)
    serial(frames, looking(expected, 0.0))
    assert len(shown) == len(expected) > 4 * 1500 // STRIP_ROWS
    for one, other in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_steady_web_takes_no_memory() -> None:
    """Strips of a megapixel pass, and never is there an array of even a twentieth of one more than before."""
    height, width, strip_rows, strips = 64, 4096, 256, 6
    answer = np.zeros((1, strip_rows + 2 * MODEL.halo, 2048), np.uint8)

    class Prepared(DarkIsBad):
        def infer(self, surface: F32) -> tuple[U8, U8]:
            return answer, answer

    web = np.full((height, width), 200, np.uint8)
    frames = (Frame(web, k % 4, k, k * 8 * PITCH_MM, k, 1.0) for k in count())
    config = Config(assembly=AssemblyConfig(strip_rows=strip_rows))
    with Inspection(calibration_of(height, width), MODEL, Prepared(), config, lambda bodies: None) as inspection:
        for frame in islice(frames, 6 * strip_rows // 8):
            inspection.push(frame)
        tracemalloc.start()
        for frame in islice(frames, strips * strip_rows // 8):
            inspection.push(frame)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert inspection.web_mm > 10 * strip_rows * PITCH_MM
    assert peak < 64 * 1024


def test_the_shipped_network_takes_no_memory_either() -> None:
    backend = OpenVinoBackend(load_model(None))
    surface = np.zeros((1, 3, 256, 512), np.float32)
    backend.infer(surface)
    rows = backend.row_by_row(surface.shape, 96)
    assert rows is not None
    rows.push(surface)
    tracemalloc.start()
    for _ in range(3):
        backend.infer(surface)
        rows.push(surface)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 1024 < surface[0, 0].size


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=300))
def test_latencies_are_counted_to_a_percent(times_ms: list[float]) -> None:
    latencies = Latencies()
    for ms in times_ms:
        latencies.add(ms, 2)
    twice = np.repeat(times_ms, 2)
    assert latencies.summary_ms()["max"] == max(times_ms)
    for name, percent in (("p50", 50), ("p99", 99), ("p999", 99.9)):
        exact = np.percentile(twice, percent, method="inverted_cdf")
        assert latencies.summary_ms()[name] == pytest.approx(exact, rel=0.011)


def test_without_events_there_is_no_latency() -> None:
    assert set(Latencies().summary_ms().values()) == {0.0}
