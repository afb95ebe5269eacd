"""A line on a fake GPU, from frames to events: what the processor tells, and the ledger where the GPU fails."""

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import msgspec
import numpy as np
import pytest
from lambertian import calibration

from edge.core.calibration import Calibration
from edge.core.config import AssemblyConfig, Config, EventsConfig, SegmentationConfig, SurfaceConfig
from edge.core.errors import CalibrationError, ModelError
from edge.core.types import Alarm, ClassMap, Coverage, Defect, Frame, Surface
from edge.pipeline.device_path import why_not_on_device
from edge.pipeline.inspection import Inspection, Watchers
from edge.segmentation.backend import Backend
from edge.segmentation.device_backend import DeviceBackend
from edge.segmentation.model import GateInfo, ModelFile, load_model
from edge.segmentation.openvino import OpenVinoBackend
from edge.service import inspecting
from edge.service.inspecting import Wishes, inspect_web
from edge.simulation.camera import StrobedCamera

from .device_scene import STRIP_ROWS, WINDOW_PX, ProcessorEngine, camera
from .fake_gpu import FakeGpu

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")

CONFIG = Config(
    assembly=AssemblyConfig(strip_rows=STRIP_ROWS),
    segmentation=SegmentationConfig(window_width_px=WINDOW_PX),
    events=EventsConfig(publish="inproc://gpu-line", replay="inproc://gpu-line-replay"),
)
Body = Defect | Coverage | Alarm


@pytest.fixture(scope="module")
def model() -> ModelFile:
    return load_model(None)


@pytest.fixture(scope="module")
def openvino(model: ModelFile) -> OpenVinoBackend:
    return OpenVinoBackend(model, "f32")


@pytest.fixture(scope="module")
def web() -> StrobedCamera:
    return camera(25.0)


@pytest.fixture(scope="module")
def frames(web: StrobedCamera) -> list[Frame]:
    return list(web.frames())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


Opener = Callable[..., DeviceBackend]


@pytest.fixture
def gpus() -> list[FakeGpu]:
    """Those that were opened."""
    return []


@pytest.fixture
def on_gpu(folder: Path, openvino: OpenVinoBackend, model: ModelFile, gpus: list[FakeGpu]) -> Opener:
    """A backend on one fake GPU after the other, with these faults."""

    def opened(*faults: dict[str, int]) -> DeviceBackend:
        seeds, left = count(), iter(faults)
        gpus.clear()

        def open_engine() -> tuple[FakeGpu, ProcessorEngine]:
            gpu = FakeGpu(folder, next(seeds), next(left, None))
            gpus.append(gpu)
            return gpu, ProcessorEngine(gpu, openvino, 3, STRIP_ROWS + 2 * model.info.halo, WINDOW_PX)

        return DeviceBackend(open_engine)

    return opened


class Seen:
    """What an inspection told and its watchers saw."""

    def __init__(self) -> None:
        self.bodies: list[Body] = []
        self.planes: list[np.ndarray] = []
        self.classes: list[np.ndarray] = []

    def publish(self, bodies: Sequence[Body]) -> None:
        self.bodies += bodies

    def look(self, surface: Surface) -> None:
        self.planes.append(np.stack([*surface.normals, surface.albedo, surface.residual, surface.valid]))

    def classify(self, class_map: ClassMap) -> None:
        self.classes.append(class_map.class_index.copy())

    @property
    def defects(self) -> list[Defect]:
        return [body for body in self.bodies if isinstance(body, Defect)]

    @property
    def covered(self) -> list[Coverage]:
        return [body for body in self.bodies if isinstance(body, Coverage)]


def wait_until_idle(inspection: Inspection) -> None:
    deadline = time.monotonic() + 60
    while inspection.strips_under_way and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not inspection.strips_under_way


def inspected(
    frames: Sequence[Frame], calibration: Calibration, model: ModelFile, backend: Backend, patiently: bool = False
) -> tuple[Seen, Inspection]:
    """`patiently`: no frame comes before the GPU is through with the one before, so that each strip is asked after."""
    seen = Seen()
    watchers = Watchers(surface=[seen.look], classes=[seen.classify])
    with Inspection(calibration, model.info, backend, CONFIG, seen.publish, watchers) as inspection:
        for frame in frames:
            inspection.push(frame)
            if patiently:
                wait_until_idle(inspection)
        inspection.finish()
    return seen, inspection


@pytest.fixture(scope="module")
def expected(frames: list[Frame], web: StrobedCamera, model: ModelFile, openvino: OpenVinoBackend) -> Seen:
    return inspected(frames, web.calibration, model, openvino)[0]


def alike(found: Defect, wanted: Defect) -> bool:
    """But for what rounding does to scores."""
    return msgspec.structs.replace(
        found, score_mean=wanted.score_mean, score_max=wanted.score_max
    ) == wanted and np.allclose(
        [found.score_mean, found.score_max], [wanted.score_mean, wanted.score_max], rtol=0, atol=2 / 255
    )


def test_a_line_on_the_gpu_tells_what_the_processor_tells_in_the_same_order(
    frames: list[Frame], web: StrobedCamera, model: ModelFile, expected: Seen, on_gpu: Opener
) -> None:
    seen, inspection = inspected(frames, web.calibration, model, on_gpu())
    assert len([defect for defect in expected.defects if defect.phase == "closed"]) >= 5
    assert [type(body) for body in seen.bodies] == [type(body) for body in expected.bodies]
    assert all(alike(*pair) for pair in zip(seen.defects, expected.defects, strict=True))
    assert seen.covered == expected.covered
    assert any("on the GPU, fake" in note for note in inspection.notes)
    planes, wanted = np.concatenate(seen.planes, axis=1), np.concatenate(expected.planes, axis=1)
    np.testing.assert_allclose(planes[:5], wanted[:5], rtol=0, atol=1e-5)
    assert (planes[5] == wanted[5]).mean() > 0.9999


@pytest.mark.parametrize("call", ["upload", "enqueue", "has_come", "captured"])
def test_a_gpu_that_fails_under_a_line_leaves_web_uninspected_and_the_line_goes_on(
    call: str,
    frames: list[Frame],
    web: StrobedCamera,
    model: ModelFile,
    expected: Seen,
    on_gpu: Opener,
    gpus: list[FakeGpu],
) -> None:
    backend = on_gpu({call: {"upload": 20, "enqueue": 4, "has_come": 3, "captured": 1}[call]})
    seen, inspection = inspected(frames, web.calibration, model, backend, patiently=call == "has_come")
    assert backend.reopened == 1
    assert gpus[0].closed
    assert not gpus[1].calls["capture"], "who has failed is asked for nothing that the line can do without"
    lost = [record for record in seen.covered if "the GPU was opened anew: the GPU failed (scripted" in record.why]
    assert lost
    assert {record.state for record in lost} == {"uninspected"}
    assert [record.from_row for record in seen.covered[1:]] == [record.to_row for record in seen.covered[:-1]]
    assert seen.covered[-1].to_row == expected.covered[-1].to_row == inspection.totals.rows
    found = np.concatenate(seen.classes)
    assert len(found) == len(np.concatenate(expected.classes))
    for record in lost:
        assert not found[record.from_row : record.to_row].any()
    planes, wanted = np.concatenate(seen.planes, axis=1), np.concatenate(expected.planes, axis=1)
    assert planes.shape == wanted.shape, "surfaces stand where their rows do"
    whole = (planes[5] == wanted[5]).all(axis=1)
    np.testing.assert_allclose(planes[:5, whole], wanted[:5, whole], rtol=0, atol=1e-5)
    assert not planes[5, ~whole].any() or (~whole).mean() < 0.3


def test_a_gpu_that_is_given_up_ends_the_inspection_with_what_was_decided_told(
    frames: list[Frame], web: StrobedCamera, model: ModelFile, on_gpu: Opener
) -> None:
    seen = Seen()
    backend = on_gpu({"enqueue": 5}, {"launch": 1}, {"launch": 1})
    with (
        pytest.raises(Exception, match="3 times in a row: given up"),
        Inspection(web.calibration, model.info, backend, CONFIG, seen.publish) as inspection,
    ):
        for frame in frames:
            inspection.push(frame)
        inspection.finish()
    assert not {"segmentation", "defects"} & {thread.name for thread in threading.enumerate()}


def test_what_is_through_is_told_though_no_frame_comes_any_more(
    frames: list[Frame], web: StrobedCamera, model: ModelFile, expected: Seen, on_gpu: Opener
) -> None:
    seen = Seen()
    with Inspection(web.calibration, model.info, on_gpu(), CONFIG, seen.publish) as inspection:
        for frame in frames:
            inspection.push(frame)
        wait_until_idle(inspection)
        opened = [defect.id for defect in seen.defects if defect.phase == "opened"]
        assert opened, "the web stands still"
        inspection.finish()
    assert len(seen.bodies) == len(expected.bodies)


def test_only_some_residuals_come_back_where_nobody_looks_at_surfaces(
    frames: list[Frame], web: StrobedCamera, model: ModelFile, expected: Seen, on_gpu: Opener
) -> None:
    backend, seen, sampled = on_gpu(), Seen(), []
    watchers = Watchers(checksum=[lambda surface: sampled.append(surface.residual.copy())], classes=[seen.classify])
    with Inspection(web.calibration, model.info, backend, CONFIG, seen.publish, watchers) as inspection:
        for frame in frames:
            inspection.push(frame)
        inspection.finish()
    residual, wanted = np.concatenate(sampled), np.concatenate(expected.planes, axis=1)[4]
    looked_at = np.arange(len(wanted)) % 16 == 8
    np.testing.assert_allclose(residual[looked_at], wanted[looked_at], rtol=0, atol=1e-5)
    assert not np.isfinite(residual[~looked_at]).any()


def test_frames_of_more_bits_than_the_calibration_has_are_refused(
    web: StrobedCamera, frames: list[Frame], model: ModelFile, on_gpu: Opener
) -> None:
    wide = [replace(frame, pixels=frame.pixels.astype(np.uint16)) for frame in frames[:3]]
    with pytest.raises(CalibrationError, match="frames are of uint16, this line is of uint8"):
        inspected(wide, web.calibration, model, on_gpu())


def test_a_line_behind_the_gate_keeps_surfaces_on_the_processor_and_says_so(
    web: StrobedCamera, model: ModelFile, on_gpu: Opener
) -> None:
    gate = GateInfo(threshold=1e9, noise=[(1e-4, 1e-2)] * 3, recall=1.0, objects=1)
    info = msgspec.structs.replace(model.info, gate=gate)
    config = msgspec.structs.replace(CONFIG, segmentation=msgspec.structs.replace(CONFIG.segmentation, gate=True))
    with Inspection(web.calibration, info, on_gpu(), config, lambda bodies: None) as inspection:
        assert any("only the network makes use: the gate looks at" in note for note in inspection.notes)


def test_what_the_gpu_has_no_kernel_for_is_known(web: StrobedCamera) -> None:
    trimmed = msgspec.structs.replace(CONFIG, surface=SurfaceConfig(solver="trimmed"))
    assert why_not_on_device(web.calibration, CONFIG) is None
    assert why_not_on_device(web.calibration, trimmed) == "the solver trimmed runs on the processor"
    assert "not from 5" in (why_not_on_device(calibration(5), CONFIG) or "")


def test_model_and_calibration_are_not_changed_under_a_line_on_the_gpu(
    web: StrobedCamera, model: ModelFile, on_gpu: Opener
) -> None:
    with Inspection(web.calibration, model.info, on_gpu(), CONFIG, lambda bodies: None) as inspection:
        with pytest.raises(ModelError, match="end the line and start it anew"):
            inspection.fit_model(model.info, on_gpu())
        with pytest.raises(CalibrationError, match="end the line and start it anew"):
            inspection.fit_calibration(web.calibration)


def test_a_replay_on_the_gpu_leaves_the_report_of_one_on_the_processor(
    web: StrobedCamera,
    frames: list[Frame],
    openvino: OpenVinoBackend,
    on_gpu: Opener,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reports = []
    for name, backend in (("processor", openvino), ("gpu", on_gpu())):
        monkeypatch.setattr(inspecting, "open_backend", lambda *_, backend=backend: (backend, []))
        wishes = Wishes(keep=frozenset({"surface", "classes"}), quiet=True)
        reports.append(
            inspect_web(
                lambda _tell: (frame for frame in frames),
                web.calibration,
                web.web_mm,
                "web",
                "",
                CONFIG,
                tmp_path / name,
                threading.Event(),
                wishes,
            )
        )
    wanted, found = reports
    for key in ("web_mm", "inspected_mm", "degraded_mm", "uninspected_mm", "edge_mm", "not_inspected", "frames"):
        assert getattr(found, key) == getattr(wanted, key)
    assert found.inspected_mm > 10
    assert all(alike(*pair) for pair in zip(found.defects, wanted.defects, strict=True))
    assert (wanted.backend, found.backend) == ("openvino", "processor")
    assert "from strobes to classes on the GPU, fake" in found.notes
    for plane in ("normals", "albedo", "residual"):
        of_both = [np.load(tmp_path / name / f"{plane}.npy") for name in ("gpu", "processor")]
        np.testing.assert_allclose(*of_both, rtol=0, atol=1e-5)
    assert (tmp_path / "gpu" / "classes.png").read_bytes() == (tmp_path / "processor" / "classes.png").read_bytes()
