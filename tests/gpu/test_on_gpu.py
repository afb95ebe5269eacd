"""What can be held against the processor where there is a GPU. Nowhere else does any of it run."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edge.core.cuda import CudaDriver
from edge.pipeline.device import DeviceLine
from edge.segmentation.device_backend import DeviceBackend
from edge.segmentation.engine_cache import EngineCache, Miss
from edge.segmentation.model import load_model
from edge.segmentation.onnxruntime import OnnxRuntimeEngine
from edge.segmentation.openvino import OpenVinoBackend
from edge.segmentation.tensorrt import RTX_CAPABILITIES, Library, build_into, open_engine

from .device_scene import STRIP_ROWS, WINDOW_PX, camera, joined, on_processor, planned, run
from .test_device import assert_scores_agree
from .test_kernel import assert_equals_the_reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="there is no NVIDIA GPU here"),
]


@pytest.fixture
def driver() -> Iterator[CudaDriver]:
    opened = CudaDriver()
    yield opened
    opened.close()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("sideways", [False, True])
def test_the_kernel_equals_the_reference(driver: CudaDriver, dtype: type, sideways: bool) -> None:
    assert_equals_the_reference(driver, dtype, sideways, halves=True)


@pytest.mark.parametrize("precision", ["f32", "f16"])
def test_the_line_decides_what_the_processor_does(driver: CudaDriver, precision: str) -> None:
    from calibration.network.torch_engine import TorchEngine

    model, web = load_model(None), camera()
    plan = planned(list(web.frames()), web)
    engine = TorchEngine(model, STRIP_ROWS + 2 * model.info.halo, WINDOW_PX, precision)
    line = DeviceLine(driver, engine, web.calibration, model.info, STRIP_ROWS, WINDOW_PX, np.uint8)
    found = joined([one.class_map for one in run(line, plan)])
    wanted = on_processor(plan, web, OpenVinoBackend(model, "f32"), model)
    assert (found.class_index == wanted.class_index).mean() >= 0.9999
    assert_scores_agree(found, wanted)


def test_tensorrt_decides_what_openvino_does(driver: CudaDriver, tmp_path: Path) -> None:
    library = pytest.importorskip("tensorrt_rtx") and Library()
    if library.name == "tensorrt-rtx" and driver.capability not in RTX_CAPABILITIES:
        pytest.skip(f"TensorRT-RTX does not know sm_{driver.capability}")
    model, cache = load_model(None), EngineCache(tmp_path)
    made_for = library.made_for(model, "auto", 256, 512, driver)
    build_into(cache, library, model, made_for)
    engine = open_engine(cache, library, model, made_for)
    assert not isinstance(engine, Miss)
    surface = np.random.default_rng(5).normal([0, 0, 1], 0.1, (1, 256, 512, 3)).astype(np.float32)
    surface = np.ascontiguousarray(surface.transpose(0, 3, 1, 2))
    found, score = DeviceBackend(lambda: (driver, engine)).infer(surface)
    wanted, wanted_score = OpenVinoBackend(model, "f32").infer(surface)
    assert (found == wanted).mean() >= 0.9999
    assert np.abs(score.astype(int) - wanted_score)[found == wanted].max() <= 2


def test_a_line_with_an_engine_that_is_replayed_decides_what_the_processor_does(
    driver: CudaDriver, tmp_path: Path
) -> None:
    library = pytest.importorskip("tensorrt_rtx") and Library()
    if library.name == "tensorrt-rtx" and driver.capability not in RTX_CAPABILITIES:
        pytest.skip(f"TensorRT-RTX does not know sm_{driver.capability}")
    model, web, cache = load_model(None), camera(), EngineCache(tmp_path)
    made_for = library.made_for(model, "auto", STRIP_ROWS + 2 * model.info.halo, WINDOW_PX, driver)
    build_into(cache, library, model, made_for)
    engine = open_engine(cache, library, model, made_for)
    assert not isinstance(engine, Miss)
    plan = planned(list(web.frames()), web)
    line = DeviceLine(driver, engine, web.calibration, model.info, STRIP_ROWS, WINDOW_PX, np.uint8)
    found = joined([one.class_map for one in run(line, plan)])
    wanted = on_processor(plan, web, OpenVinoBackend(model, "f32"), model)
    assert (found.class_index == wanted.class_index).mean() >= 0.9999
    assert_scores_agree(found, wanted)


def test_onnx_runtime_decides_what_openvino_does(driver: CudaDriver) -> None:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-gpu is not installed")
    model = load_model(None)
    engine = OnnxRuntimeEngine(model, "auto", 256, 512, driver)
    surface = np.random.default_rng(5).normal([0, 0, 1], 0.1, (1, 256, 512, 3)).astype(np.float32)
    surface = np.ascontiguousarray(surface.transpose(0, 3, 1, 2))
    found, _ = DeviceBackend(lambda: (driver, engine)).infer(surface)
    wanted, _ = OpenVinoBackend(model, "f32").infer(surface)
    assert (found == wanted).mean() >= 0.9999
