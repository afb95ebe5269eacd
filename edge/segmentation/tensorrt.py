"""Models on an NVIDIA GPU, by TensorRT: engines are made of model files, and executed.

One adapter for two libraries of one interface: `tensorrt` (10.13 and later), which makes an engine for the GPU it is
made on, and `tensorrt-rtx`, which makes engines without a GPU, for any of several generations.
"""

import time
from pathlib import Path
from typing import Any, Literal

from edge.core.clock import utc_now
from edge.core.errors import ConfigError, MissingExtra, ModelError
from edge.core.gpu import Address, Driver, GpuError, Stream
from edge.core.reading import one_line
from edge.segmentation.engine_cache import EngineCache, MadeFor, Miss, Sidecar
from edge.segmentation.half import half
from edge.segmentation.model import ModelFile

OLDEST = (10, 13)
"""Of `tensorrt`: what the adapter asks for is there from this release on."""
RTX_CAPABILITIES = (80, 86, 89, 120, 121)
"""GPUs that an engine of TensorRT-RTX runs on, by capability of computation."""

Asked = Literal["auto", "f32", "bf16"]


class Library:
    """TensorRT, whichever is installed; `name`, `version` and what it last complained of. Raises MissingExtra."""

    def __init__(self) -> None:
        self.name, self.module = _installed()
        self.version = str(self.module.__version__)
        if self.name == "tensorrt" and tuple(int(part) for part in self.version.split(".")[:2]) < OLDEST:
            raise ConfigError(
                f"TensorRT {self.version} is too old, {OLDEST[0]}.{OLDEST[1]} is needed: "
                "run  pip install --upgrade 'foilsight[gpu]'"
            )
        self.complaints: list[str] = []
        self.logger = _logger(self.module, self.complaints)

    def made_for(self, model: ModelFile, asked: Asked, rows: int, columns: int, driver: Driver | None) -> MadeFor:
        """What an engine for a model and this machine is made for; `driver` None: a machine without a GPU.

        Raises ConfigError for a precision that cannot be had, GpuError where the library knows nothing of this GPU or
        cannot do without one.
        """
        portable = self.name == "tensorrt-rtx"
        if driver is None and not portable:
            raise GpuError("TensorRT makes engines only on the GPU they are for, and there is none here")
        if driver is not None and portable and driver.capability not in RTX_CAPABILITIES:
            known = ", ".join(f"sm_{capability}" for capability in RTX_CAPABILITIES)
            raise GpuError(f"{driver.gpu} is sm_{driver.capability}: TensorRT-RTX knows {known}, install tensorrt")
        return MadeFor(
            model=model.digest,
            library=self.name,
            version=self.version,
            gpu="any" if driver is None or portable else driver.gpu,
            capability=",".join(map(str, RTX_CAPABILITIES if driver is None or portable else [driver.capability])),
            driver="any" if driver is None or portable else driver.version,
            precision=choose_precision(model, asked),
            rows=rows,
            columns=columns,
        )

    def build(self, model: ModelFile, made_for: MadeFor, tuning: Path | None = None) -> bytes:
        """Make an engine; with the full library this takes minutes. `tuning`: file of what it measures on the way.

        Raises ModelError for a model that it cannot read or execute.
        """
        trt = self.module
        self.complaints.clear()
        builder = trt.Builder(self.logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, self.logger)
        data = half(model.data, model.path) if made_for.precision == "f16" else model.data
        if not parser.parse(data):
            said = [parser.get_error(at).desc() for at in range(parser.num_errors)]
            raise ModelError(f"{model.path}: cannot be read by TensorRT: {one_line(' '.join(said))}")
        _check(network, model)
        config = builder.create_builder_config()
        profile = builder.create_optimization_profile()
        least, most = (model.info.grid, model.info.grid), (made_for.rows, made_for.columns)
        profile.set_shape("surface", *((1, len(model.info.channels), *size) for size in (least, most, most)))
        config.add_optimization_profile(profile)
        if tuning is not None and self.name == "tensorrt":
            measured = config.create_timing_cache(tuning.read_bytes() if tuning.exists() else b"")
            config.set_timing_cache(measured, ignore_mismatch=False)
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise ModelError(f"{model.path}: TensorRT makes no engine of it: {self.complaint()}")
        if tuning is not None and self.name == "tensorrt":
            tuning.write_bytes(bytes(config.get_timing_cache().serialize()))
        return bytes(engine)

    def complaint(self) -> str:
        """What it last complained of, in one line."""
        return one_line(self.complaints[-1] if self.complaints else "it says no more")


class TensorRtEngine:
    """An `Engine` out of an engine file's bytes. Raises ModelError for one that does not fit library and GPU.

    A driver must be open: without one the library brings the process down when it ends.
    """

    capturable = True

    def __init__(self, library: Library, data: bytes, model: ModelFile, made_for: MadeFor) -> None:
        self.name, self.precision = made_for.library, made_for.precision
        self.channels, self.rows, self.columns = len(model.info.channels), made_for.rows, made_for.columns
        self._library = library
        library.complaints.clear()
        self._runtime = library.module.Runtime(library.logger)
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise ModelError(f"{model.path}: its engine does not run here ({library.complaint()}): {BUILD}")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise GpuError(f"TensorRT cannot begin: {library.complaint()}")

    def enqueue(
        self, surface: Address, shape: tuple[int, ...], class_index: Address, score: Address, stream: Stream
    ) -> None:
        """See `Engine.enqueue`."""
        self._library.complaints.clear()
        context = self._context
        taken = (
            context.set_input_shape("surface", shape)
            and context.set_tensor_address("surface", surface)
            and context.set_tensor_address("class_index", class_index)
            and context.set_tensor_address("score", score)
            and context.execute_async_v3(stream)
        )
        if not taken:
            raise GpuError(f"TensorRT failed on a window of {shape}: {self._library.complaint()}")


BUILD = "run  foilsight engine build"


def build_into(cache: EngineCache, library: Library, model: ModelFile, made_for: MadeFor) -> Sidecar:
    """Make an engine and keep it. Raises ModelError."""
    with cache.locked():
        started = time.perf_counter()
        data = library.build(model, made_for, cache.tuning(made_for))
        sidecar = Sidecar.of(made_for, model.path, utc_now(), time.perf_counter() - started, data)
        cache.store(sidecar, data)
    return sidecar


def open_engine(cache: EngineCache, library: Library, model: ModelFile, made_for: MadeFor) -> TensorRtEngine | Miss:
    """The engine of the cache, or why there is none. It is never made here: that would hold up the line."""
    data = cache.find(made_for)
    return data if isinstance(data, Miss) else TensorRtEngine(library, data, model, made_for)


def choose_precision(model: ModelFile, asked: Asked) -> str:
    """What an engine computes in: int8 where the file is quantised, otherwise f16 unless f32 is asked for.

    Raises ConfigError for what TensorRT engines of ours are not made in.
    """
    if model.info.precision == "int8":
        if asked != "auto":
            raise ConfigError(f"segmentation.precision is {asked}: {model.path} is quantised to int8, leave it on auto")
        return "int8"
    if asked == "bf16":
        raise ConfigError("segmentation.precision is bf16: on a GPU it is f16 (auto) or f32")
    return "f32" if asked == "f32" else "f16"


def _check(network: Any, model: ModelFile) -> None:
    inputs = {network.get_input(at).name: network.get_input(at).shape for at in range(network.num_inputs)}
    outputs = {network.get_output(at).name for at in range(network.num_outputs)}
    if set(inputs) != {"surface"} or not {"class_index", "score"} <= outputs:
        raise ModelError(
            f"{model.path}: model takes {sorted(inputs)} and gives {sorted(outputs)}, "
            "not 'surface' and 'class_index', 'score': write it with `foilsight export`"
        )
    if inputs["surface"][1] != len(model.info.channels):
        raise ModelError(
            f"{model.path}: model takes {inputs['surface'][1]} channels and names {len(model.info.channels)}: "
            "write it with `foilsight export`"
        )


def _installed() -> tuple[str, Any]:
    """The library that is installed: the one for this very GPU before the one for many."""
    try:
        import tensorrt

        if hasattr(tensorrt, "Builder"):  # without its libraries the package is an empty shell
            return "tensorrt", tensorrt
    except (ImportError, OSError):
        pass
    try:
        import tensorrt_rtx
    except (ImportError, OSError) as error:
        raise MissingExtra("TensorRT", "gpu") from error
    return "tensorrt-rtx", tensorrt_rtx


def _logger(trt: Any, complaints: list[str]) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                complaints.append(message)

    return Log()
