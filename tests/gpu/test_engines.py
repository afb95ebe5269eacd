"""TensorRT engines without a GPU: made ahead of time, kept, found again or refused with the reason."""

import ast
import inspect
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import onnx
import pytest

from calibration.network.quantise import quantise, write_info
from edge.cli import run_command
from edge.core.config import Config, SegmentationConfig
from edge.core.errors import ConfigError, ModelError
from edge.core.gpu import GpuError, NoGpu
from edge.segmentation import tensorrt as adapter
from edge.segmentation.engine_cache import SIDECAR, EngineCache, Miss
from edge.segmentation.half import half
from edge.segmentation.model import METADATA_KEY, ModelFile, ModelInfo, load_model
from edge.segmentation.openvino import OpenVinoBackend
from edge.segmentation.tensorrt import Library, build_into
from edge.service import backends

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX makes engines without a GPU: pip install tensorrt-rtx")

H200 = SimpleNamespace(gpu="H200", capability=90, version="13.0", close=lambda: None)
RTX_4090 = SimpleNamespace(gpu="RTX 4090", capability=89, version="13.0", close=lambda: None)


@pytest.fixture(scope="module")
def library() -> Library:
    return Library()


@pytest.fixture(scope="module")
def shipped() -> ModelFile:
    return load_model(None)


@pytest.fixture(scope="module")
def int8(shipped: ModelFile, tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    path = tmp_path_factory.mktemp("int8") / "int8.onnx"
    patches = np.random.default_rng(1).normal(0, 0.5, (4, 3, 64, 64)).astype(np.float32)
    write_info(path, quantise(shipped, patches), msgspec.structs.replace(shipped.info, precision="int8"))
    return load_model(path)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineCache]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield backends.engine_cache()


def written(model: onnx.ModelProto, info: ModelInfo, path: Path) -> ModelFile:
    del model.metadata_props[:]
    write_info(path, model, info)
    return load_model(path)


# Making


@pytest.mark.parametrize("precision", ["f16", "f32", "int8"])
def test_what_is_shipped_becomes_an_engine_that_is_found_again(
    precision: str, request: pytest.FixtureRequest, library: Library, own_cache: EngineCache
) -> None:
    model = request.getfixturevalue("int8" if precision == "int8" else "shipped")
    made_for = library.made_for(model, "f32" if precision == "f32" else "auto", 448, 1024, None)
    assert made_for.precision == precision
    assert isinstance(own_cache.find(made_for), Miss)
    sidecar = build_into(own_cache, library, model, made_for)
    engine = own_cache.find(made_for)
    assert isinstance(engine, bytes)
    assert len(engine) == sidecar.size > 100_000
    assert library.complaints == []


def test_half_precision_decides_as_single_does(shipped: ModelFile) -> None:
    import onnxruntime

    random = np.random.default_rng(3)
    surface = np.stack([0.25 * wave(random), 0.25 * wave(random), 1 + 0.3 * wave(random)])[None].astype(np.float32)
    answers = [
        onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"surface": surface})
        for data in (shipped.data, half(shipped.data, shipped.path))
    ]
    (single, single_score), (halved, halved_score) = answers
    assert (single > 0).sum() > 500, "the surface must hold what the model takes for defects"
    assert (single == halved).mean() >= 0.999
    same = single == halved
    assert np.abs(single_score.astype(int) - halved_score)[same].max() <= 4
    assert len(half(shipped.data, shipped.path)) < 0.6 * len(shipped.data)


def wave(random: np.random.Generator) -> np.ndarray:
    """Smooth noise (256, 256) of unit size."""
    spectrum = np.fft.rfft2(random.normal(size=(256, 256)))
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256))
    smooth = np.fft.irfft2(spectrum * np.exp(-((20 * frequency) ** 2)))
    return smooth / smooth.std()


def test_weights_that_half_precision_cannot_hold_are_refused(shipped: ModelFile, tmp_path: Path) -> None:
    proto = onnx.load_from_string(shipped.data)
    weights = next(constant for constant in proto.graph.initializer if len(constant.dims) == 4)
    weights.CopyFrom(onnx.numpy_helper.from_array(1e6 * onnx.numpy_helper.to_array(weights), weights.name))
    with pytest.raises(ModelError, match="too large for half precision"):
        half(proto.SerializeToString(), tmp_path)


def test_models_that_cannot_become_an_engine_are_refused_in_one_line(
    shipped: ModelFile, library: Library, tmp_path: Path
) -> None:
    unknown = onnx.load_from_string(shipped.data)
    next(node for node in unknown.graph.node if node.op_type == "Relu").op_type = "Rleu"
    headless = onnx.load_from_string(shipped.data)
    headless.graph.output[1].name = "certainty"
    next(node for node in headless.graph.node if "score" in node.output).output[0] = "certainty"
    narrow = msgspec.structs.replace(shipped.info, channels=["normal_x", "normal_y"], gate=None)
    plain = onnx.load_from_string(shipped.data)
    for proto, info, said in (
        (unknown, shipped.info, "cannot be read by TensorRT"),
        (headless, shipped.info, "gives .*certainty"),
        (plain, narrow, "takes 3 channels and names 2"),
    ):
        model = written(proto, info, tmp_path / "model.onnx")
        with pytest.raises(ModelError, match=said) as raised:
            library.build(model, library.made_for(model, "auto", 448, 1024, None))
        assert "\n" not in str(raised.value)
        assert "model.onnx" in str(raised.value)


# Keeping


def test_another_version_window_or_precision_is_a_miss_that_says_so(
    shipped: ModelFile, library: Library, own_cache: EngineCache
) -> None:
    made_for = library.made_for(shipped, "auto", 448, 1024, None)
    build_into(own_cache, library, shipped, made_for)
    for changes, said in (
        ({"version": "9.9"}, f"is of version {library.version}, here 9.9"),
        ({"gpu": "RTX 5090", "driver": "14.0"}, "is of gpu any, here RTX 5090, driver any, here 14.0"),
        ({"columns": 2048}, "is of columns 1024, here 2048"),
        ({"precision": "f32"}, "is of precision f16, here f32"),
        ({"model": "0" * 64}, "no engine was built for this model"),
    ):
        missed = own_cache.find(msgspec.structs.replace(made_for, **changes))
        assert isinstance(missed, Miss)
        assert said in missed.reason


@pytest.mark.parametrize("harm", ["torn", "changed", "gone", "sidecar"])
def test_a_damaged_engine_is_a_miss_and_is_made_again(
    harm: str, shipped: ModelFile, library: Library, own_cache: EngineCache
) -> None:
    made_for = library.made_for(shipped, "auto", 448, 1024, None)
    build_into(own_cache, library, shipped, made_for)
    engine = own_cache.folder / f"{made_for.key}.engine"
    if harm == "torn":
        engine.write_bytes(engine.read_bytes()[:-1])
    elif harm == "changed":
        engine.write_bytes(b"x" + engine.read_bytes()[1:])
    elif harm == "gone":
        engine.unlink()
    else:
        engine.with_suffix(SIDECAR).write_text("{")
    assert isinstance(own_cache.find(made_for), Miss)
    build_into(own_cache, library, shipped, made_for)
    assert isinstance(own_cache.find(made_for), bytes)
    assert {path.suffix for path in own_cache.folder.iterdir()} == {"", ".engine", SIDECAR}, "nothing half written"


def test_one_builder_at_a_time(own_cache: EngineCache) -> None:
    order = []

    def other() -> None:
        with own_cache.locked():
            order.append("other")

    with own_cache.locked():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


# Choosing


def test_without_a_gpu_the_processor_is_taken_and_there_is_nothing_to_say(
    shipped: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "CudaDriver", raising(NoGpu("there is no NVIDIA driver here")))
    backend, notes = backends.open_backend(shipped, Config())
    assert isinstance(backend, OpenVinoBackend)
    assert notes == []


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        (RTX_4090, "no engine was built for this model: run  foilsight engine build"),
        (H200, "H200 is sm_90: TensorRT-RTX knows sm_80, sm_86, sm_89, sm_120, sm_121"),
        (GpuError("the GPU failed (CUDA_ERROR_ECC_UNCORRECTABLE of cuInit)"), "ECC"),
    ],
)
def test_where_a_gpu_cannot_be_used_the_report_says_why(
    driver: object, said: str, shipped: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "CudaDriver", raising(driver) if isinstance(driver, Exception) else lambda: driver)
    backend, (note,) = backends.open_backend(shipped, Config())
    assert isinstance(backend, OpenVinoBackend)
    assert said in note
    with pytest.raises(GpuError, match="the GPU is asked for and cannot be used") as raised:
        backends.open_backend(shipped, Config(segmentation=SegmentationConfig(backend="tensorrt")))
    assert said in str(raised.value)


def raising(error: object) -> object:
    def call() -> None:
        assert isinstance(error, Exception)
        raise error

    return call


def test_what_a_gpu_does_not_compute_in_is_refused(shipped: ModelFile, int8: ModelFile) -> None:
    with pytest.raises(ConfigError, match="is bf16: on a GPU it is f16"):
        adapter.choose_precision(shipped, "bf16")
    with pytest.raises(ConfigError, match="is quantised to int8"):
        adapter.choose_precision(int8, "f32")


# The command


def test_the_command_builds_lists_and_checks(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run_command(["engine", "list"]) == 0
    assert "no engines" in capfd.readouterr().out
    assert run_command(["engine", "build"]) == 0
    assert "made in" in capfd.readouterr().out
    assert run_command(["engine", "build"]) == 0
    assert "is there" in capfd.readouterr().out
    assert run_command(["engine", "list", "--json"]) == 0
    (engine,) = json.loads(capfd.readouterr().out)
    assert engine["made_for"]["precision"] == "f16"
    assert engine["made_for"]["columns"] == 2048
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"junk")
    assert run_command(["engine", "build", str(junk)]) == 2
    error = capfd.readouterr().err
    assert "junk.onnx: not an ONNX model" in error
    assert error.count("\n") == 1


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU")
def test_a_gpu_that_is_required_and_missing_ends_it(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run_command(["engine", "check"]) == 1
    assert "no NVIDIA driver" in capfd.readouterr().out
    assert run_command(["replay", "--require-gpu", "--report", str(tmp_path / "report")]) == 2
    assert capfd.readouterr().err == (
        "foilsight: the GPU is asked for and cannot be used: there is no NVIDIA driver here\n"
    )
    assert not (tmp_path / "report").exists()


# Names


def test_every_name_the_adapter_asks_tensorrt_for_is_there() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    of = {
        "trt": trt,
        "builder": trt.Builder,
        "network": trt.INetworkDefinition,
        "parser": trt.OnnxParser,
        "config": trt.IBuilderConfig,
        "profile": trt.IOptimizationProfile,
        "context": trt.IExecutionContext,
        "self._runtime": trt.Runtime,
        "self._engine": trt.ICudaEngine,
        "library.module": trt,
        "trt.ILogger": trt.ILogger,
        "trt.NetworkDefinitionCreationFlag": trt.NetworkDefinitionCreationFlag,
        "parser.get_error(at)": trt.ParserError,
        "network.get_input(at)": trt.ITensor,
        "network.get_output(at)": trt.ITensor,
    }
    asked = {
        (owner, node.attr)
        for node in ast.walk(ast.parse(inspect.getsource(adapter)))
        if isinstance(node, ast.Attribute) and (owner := ast.unparse(node.value)) in of
    }
    missing = {f"{owner}.{name}" for owner, name in asked if not hasattr(of[owner], name)}
    assert len(asked) > 30
    assert not missing


def test_a_model_file_keeps_what_it_says_of_itself_in_half(shipped: ModelFile) -> None:
    proto = onnx.load_from_string(half(shipped.data, shipped.path))
    onnx.checker.check_model(proto, full_check=True)
    assert METADATA_KEY in {entry.key for entry in proto.metadata_props}


# Executing


class Context:
    """An execution context that refuses one call."""

    def __init__(self, refuses: str) -> None:
        self.refuses, self.calls = refuses, []

    def __getattr__(self, name: str) -> object:
        def call(*arguments: object) -> bool:
            self.calls.append((name, *arguments))
            return name != self.refuses

        return call


def engine_on(context: Context, shipped: ModelFile) -> adapter.TensorRtEngine:
    engine = SimpleNamespace(create_execution_context=lambda: context)
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda data: engine if data == b"good" else None)
    complaints = ["the engine plan file is not compatible\nwith this version"]
    module = SimpleNamespace(Runtime=lambda logger: runtime)
    library = SimpleNamespace(module=module, logger=None, complaints=complaints, complaint=lambda: "no memory")
    made_for = SimpleNamespace(library="tensorrt", precision="f16", rows=448, columns=1024)
    return adapter.TensorRtEngine(library, b"bad" if context.refuses == "engine" else b"good", shipped, made_for)


def test_an_engine_is_told_shape_and_addresses_and_put_into_the_stream(shipped: ModelFile) -> None:
    context = Context("nothing")
    engine_on(context, shipped).enqueue(0x100, (1, 3, 64, 96), 0x200, 0x300, 7)
    assert sorted(context.calls[:-1]) == [
        ("set_input_shape", "surface", (1, 3, 64, 96)),
        ("set_tensor_address", "class_index", 0x200),
        ("set_tensor_address", "score", 0x300),
        ("set_tensor_address", "surface", 0x100),
    ]
    assert context.calls[-1] == ("execute_async_v3", 7)


@pytest.mark.parametrize("refuses", ["set_input_shape", "set_tensor_address", "execute_async_v3"])
def test_what_tensorrt_refuses_is_an_error_of_the_gpu(refuses: str, shipped: ModelFile) -> None:
    engine = engine_on(Context(refuses), shipped)
    with pytest.raises(GpuError, match=r"TensorRT failed on a window of \(1, 3, 64, 96\): no memory"):
        engine.enqueue(0x100, (1, 3, 64, 96), 0x200, 0x300, 7)


def test_an_engine_that_does_not_fit_library_or_gpu_is_refused_with_what_to_do(shipped: ModelFile) -> None:
    with pytest.raises(ModelError, match=r"does not run here .*: run  foilsight engine build"):
        engine_on(Context("engine"), shipped)
