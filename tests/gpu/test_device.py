"""The device loop on a fake GPU: the same class map as on the processor, in any order a GPU may work in; faults."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from edge.core.types import ClassMap
from edge.segmentation.model import ModelFile, load_model
from edge.segmentation.openvino import OpenVinoBackend

from .device_scene import Plan, camera, joined, on_processor, opener, planned, run
from .fake_gpu import FakeGpu

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")


@pytest.fixture(scope="module")
def model() -> ModelFile:
    return load_model(None)


@pytest.fixture(scope="module")
def backend(model: ModelFile) -> OpenVinoBackend:
    return OpenVinoBackend(model, "f32")


@pytest.fixture(scope="module")
def web():
    return camera()


@pytest.fixture(scope="module")
def plan(web) -> Plan:
    return planned(list(web.frames()), web)


@pytest.fixture(scope="module")
def expected(plan: Plan, web, backend: OpenVinoBackend, model: ModelFile) -> ClassMap:
    return on_processor(plan, web, backend, model)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where kernels are compiled, once."""
    return tmp_path_factory.mktemp("kernels")


@pytest.mark.parametrize("seed", range(4))
def test_the_class_map_is_the_processors_whatever_order_the_gpu_works_in(
    seed: int, folder: Path, plan: Plan, web, backend: OpenVinoBackend, model: ModelFile, expected: ClassMap
) -> None:
    gpu = FakeGpu(folder, seed)
    decided = run(opener(web, backend, model, [gpu])(), plan)
    found = joined([one.class_map for one in decided])
    assert [one.class_map.first_row for one in decided] == list(
        np.cumsum([0, *(one.class_map.rows for one in decided)])[:-1]
    )
    assert (expected.class_index > 0).sum() > 1000
    assert found.class_index.shape == expected.class_index.shape
    assert (found.class_index == expected.class_index).mean() >= 0.9999
    assert np.abs(found.score.astype(int) - expected.score).max() <= 2
