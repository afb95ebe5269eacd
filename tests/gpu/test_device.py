"""The device loop on a fake GPU: the same class map as on the processor, in any order a GPU may work in; faults."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from lambertian import calibration

from edge.assembly.row_map import RowMap
from edge.core.errors import ConfigError, ModelError
from edge.core.gpu import GpuError
from edge.core.types import ClassMap
from edge.pipeline import device
from edge.pipeline.device import PASSAGES, DeviceLine
from edge.pipeline.device_recovery import RecoveringLine
from edge.pipeline.ledger import Ledger
from edge.segmentation.model import ModelFile, load_model
from edge.segmentation.openvino import OpenVinoBackend
from edge.simulation.camera import StrobedCamera

from .device_scene import WIDTH_PX, Plan, ProcessorEngine, camera, joined, on_processor, opener, planned, run
from .fake_gpu import FakeGpu

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")


@pytest.fixture(scope="module")
def model() -> ModelFile:
    return load_model(None)


@pytest.fixture(scope="module")
def backend(model: ModelFile) -> OpenVinoBackend:
    return OpenVinoBackend(model, "f32")


@pytest.fixture(scope="module")
def web() -> StrobedCamera:
    return camera()


@pytest.fixture(scope="module")
def plan(web: StrobedCamera) -> Plan:
    return planned(list(web.frames()), web)


@pytest.fixture(scope="module")
def expected(plan: Plan, web: StrobedCamera, backend: OpenVinoBackend, model: ModelFile) -> ClassMap:
    return on_processor(plan, web, backend, model)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where kernels are compiled, once."""
    return tmp_path_factory.mktemp("kernels")


@pytest.mark.parametrize("seed", range(3))
def test_the_class_map_is_the_processors_whatever_order_the_gpu_works_in(
    seed: int,
    folder: Path,
    plan: Plan,
    web: StrobedCamera,
    backend: OpenVinoBackend,
    model: ModelFile,
    expected: ClassMap,
) -> None:
    gpu = FakeGpu(folder, seed)
    decided = run(opener(web, backend, model, [gpu])(), plan)
    found = joined([one.class_map for one in decided])
    assert [one.class_map.first_row for one in decided] == list(
        np.cumsum([0, *(one.class_map.rows for one in decided)])[:-1]
    )
    assert (expected.class_index > 0).sum() > 500
    assert found.class_index.shape == expected.class_index.shape
    assert (found.class_index == expected.class_index).mean() >= 0.9999
    assert_scores_agree(found, expected)
    assert gpu.calls["replay"] >= 3, "windows of one shape are put into a stream at once"
    assert gpu.calls["capture"] <= gpu.calls["replay"]


def assert_scores_agree(found: ClassMap, wanted: ClassMap) -> None:
    """Of windows that hold nothing no scores are sent back."""
    apart = np.abs(found.score.astype(int) - wanted.score)
    assert apart[(found.class_index > 0) & (wanted.class_index > 0)].max(initial=0) <= 2
    assert apart[found.score > 0].max(initial=0) <= 2


def test_a_strobe_waits_in_pinned_memory_until_it_is_copied(
    folder: Path,
    plan: Plan,
    web: StrobedCamera,
    backend: OpenVinoBackend,
    model: ModelFile,
    expected: ClassMap,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device, "UPLOADS", 1)
    decided = run(opener(web, backend, model, [FakeGpu(folder)])(), plan)
    found = joined([one.class_map for one in decided])
    assert (found.class_index == expected.class_index).mean() >= 0.9999


@pytest.mark.parametrize("seed", range(3))
def test_a_roll_shorter_than_a_window_and_another_behind_it(
    seed: int, folder: Path, plan: Plan, web: StrobedCamera, backend: OpenVinoBackend, model: ModelFile
) -> None:
    line = opener(web, backend, model, [FakeGpu(folder, seed)])()
    for strips in (2, 6, 7):
        short = cut(plan, strips)
        found = joined([one.class_map for one in run(line, short)])
        wanted = on_processor(short, web, backend, model)
        assert found.class_index.shape == wanted.class_index.shape
        assert (found.class_index == wanted.class_index).mean() >= 0.9999
        assert_scores_agree(found, wanted)


def cut(plan: Plan, strips: int) -> Plan:
    """As if the roll ended behind so many strips, and all strobes had come before the last two of them."""
    maps = [at for at, step in enumerate(plan.steps) if isinstance(step[0], RowMap)]
    steps = plan.steps[: maps[strips - 1] + 1]
    last = [steps[at] for at in maps[strips - 2 : strips]]
    kept = [step for at, step in enumerate(steps) if at not in maps[strips - 2 : strips]]
    return Plan([*kept, *last], plan.strips[:strips])


def test_copies_overlap_with_work_and_no_pixel_goes_twice(
    folder: Path, plan: Plan, web: StrobedCamera, backend: OpenVinoBackend, model: ModelFile
) -> None:
    gpu = FakeGpu(folder)
    run(opener(web, backend, model, [gpu])(), plan)
    strobes = [step[1].nbytes for step in plan.steps if not isinstance(step[0], RowMap)]
    rows = sum(strip.rows for strip in plan.strips)
    assert gpu.most_under_way >= PASSAGES, "streams must hold work of several strips at once"
    resident = 4 * 4 * web.calibration.height * WIDTH_PX * 2
    assert gpu.bytes_up < 1.15 * (sum(strobes) + resident)
    assert gpu.bytes_down < 1.1 * 2 * rows * (WIDTH_PX + 2 * 2 * model.info.halo)


class Spots:
    """Calls class 1 what lies at these columns of a window, in its rows [lowest, highest)."""

    name, precision = "spots", "f32"

    def __init__(self, columns: tuple[int, ...], lowest: int, highest: int) -> None:
        self._columns, self._rows = list(columns), slice(lowest, highest)

    def infer(self, surface: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        classes = np.zeros((1, *surface.shape[2:]), np.uint8)
        classes[:, self._rows, self._columns] = 1
        return classes, np.full_like(classes, 200)


def test_windows_that_hold_nothing_send_nothing_back(
    folder: Path, plan: Plan, web: StrobedCamera, model: ModelFile
) -> None:
    halo, found = model.info.halo, []
    for columns, lowest, highest in (((), 0, 0), ((5,), 0, halo), ((5, 271), 0, 999)):
        gpu = FakeGpu(folder)
        backend = Spots(columns, lowest, highest)
        decided = run(opener(web, backend, model, [gpu])(), plan)
        wanted = on_processor(plan, web, backend, model)
        np.testing.assert_array_equal(joined([one.class_map for one in decided]).class_index, wanted.class_index)
        found.append((gpu.calls["download"], gpu.bytes_down))
    (downloads, least), (_, of_first), (_, whole) = found
    rows = sum(strip.rows for strip in plan.strips)
    assert least < 0.35 * 2 * rows * WIDTH_PX
    assert least < of_first < 0.5 * whole, "what only lies in the halo of a window is another window's"
    assert downloads > 0


# Faults

CALLS = ("upload", "launch", "enqueue", "download", "synchronise", "record", "allocate")


@pytest.mark.parametrize("call", CALLS)
def test_a_gpu_that_fails_costs_rows_that_the_ledger_names_and_goes_on(
    call: str,
    folder: Path,
    plan: Plan,
    web: StrobedCamera,
    backend: OpenVinoBackend,
    model: ModelFile,
    expected: ClassMap,
) -> None:
    healthy = FakeGpu(folder)
    opener(web, backend, model, [healthy])()
    at_start = healthy.calls[call]
    at = at_start + {"allocate": 1, "launch": 8, "enqueue": 3, "synchronise": 6}.get(call, 12)
    gpus = [FakeGpu(folder, 1, {call: at}), FakeGpu(folder, 2)]
    line = RecoveringLine(opener(web, backend, model, gpus), WIDTH_PX, model.info.halo)
    decided = run(line, plan)
    assert line.failures == 1
    found = joined([one.class_map for one in decided])
    lost = np.concatenate([one.lost for one in decided])
    assert found.class_index.shape == expected.class_index.shape
    assert lost.any()
    assert not lost[-100:].any(), "it goes on"
    assert not found.class_index[lost].any()
    same = (found.class_index == expected.class_index)[~lost]
    assert same.mean() >= 0.9999, "rows that are not lost are decided as ever"

    ledger = Ledger(web.calibration, web.calibration.pitch_mm)
    for strip in plan.strips:
        ledger.push(strip.lights_seen)
    records = [record for one in decided for record in ledger.decide(one.class_map.rows, one.lost, one.why)]
    records += ledger.finish()
    of_gpu = [record for record in records if "the GPU was opened anew" in record.why]
    assert {record.state for record in of_gpu} == {"uninspected"}
    seen = np.concatenate([strip.lights_seen for strip in plan.strips])[:, 0]
    solvable = np.isin(seen, [15, 7, 11, 13, 14])
    assert sum(record.to_row - record.from_row for record in of_gpu) == (lost & solvable).sum()
    assert ledger.totals.rows == len(lost), "every row is in the ledger once"


def test_a_gpu_that_keeps_failing_is_given_up_in_one_line(
    folder: Path, plan: Plan, web: StrobedCamera, backend: OpenVinoBackend, model: ModelFile
) -> None:
    gpus = [FakeGpu(folder, faults={"launch": 2}), *(FakeGpu(folder, faults={"allocate": 1}) for _ in range(9))]
    line = RecoveringLine(opener(web, backend, model, gpus), WIDTH_PX, model.info.halo)
    with pytest.raises(GpuError, match="3 times in a row: given up") as raised:
        run(line, plan)
    assert "\n" not in str(raised.value)


def test_what_does_not_fit_is_refused_before_the_first_strobe(
    folder: Path, web: StrobedCamera, backend: OpenVinoBackend, model: ModelFile
) -> None:
    with pytest.raises(GpuError, match="scripted, in allocate"):
        RecoveringLine(opener(web, backend, model, [FakeGpu(folder, faults={"allocate": 1})]), WIDTH_PX, 96)
    small = ProcessorEngine(FakeGpu(folder), backend, 3, 128, 272)
    with pytest.raises(ModelError, match="takes windows up to 128 x 272 px, this line has 256 x 272"):
        DeviceLine(small.gpu, small, web.calibration, model.info, 64, 272, np.uint8)
    five = calibration(5)
    engine = ProcessorEngine(FakeGpu(folder), backend, 3, 256, 272)
    with pytest.raises(ConfigError, match="solves from 3 or 4 lights, not 5"):
        DeviceLine(engine.gpu, engine, five, model.info, 64, 272, np.uint8)
