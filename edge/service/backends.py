"""What executes the model: TensorRT on a GPU, or else OpenVINO, unless ONNX Runtime is asked for. Chosen once, before
the first frame, and said."""

from pathlib import Path

from edge.core.config import Config
from edge.core.cuda import CudaDriver
from edge.core.errors import FoilsightError, MissingExtra
from edge.core.gpu import Driver, GpuError, NoGpu
from edge.segmentation.backend import Backend
from edge.segmentation.device_backend import DeviceBackend, Engine
from edge.segmentation.engine_cache import EngineCache, MadeFor, Miss
from edge.segmentation.model import ModelFile
from edge.segmentation.onnxruntime import OnnxRuntimeEngine
from edge.segmentation.openvino import OpenVinoBackend
from edge.segmentation.tensorrt import BUILD, Library, open_engine
from edge.service.line import cache_folder

_NVIDIA = Path("/dev/nvidiactl")
"""Is there where NVIDIA's driver is."""


def engine_cache() -> EngineCache:
    """The engines of this user."""
    return EngineCache(cache_folder() / "engines")


def wanted_engine(model: ModelFile, config: Config, library: Library, driver: Driver | None) -> MadeFor:
    """What an engine must be made for to decide the windows of this line."""
    return library.made_for(model, config.segmentation.precision, *_window(model, config), driver)


def open_backend(model: ModelFile, config: Config) -> tuple[Backend, list[str]]:
    """What executes the model, and what must be said of the choice: why not the GPU, where there is one.

    Raises GpuError where the configuration asks for a GPU and it cannot be had; ModelError, ConfigError as the
    backends do.
    """
    asked, notes = config.segmentation.backend, []
    if asked != "openvino":
        try:
            return DeviceBackend(lambda: _opened(model, config, asked == "onnxruntime")), []
        except FoilsightError as error:
            if asked != "auto":
                raise GpuError(f"the GPU is asked for and cannot be used: {error}") from error
            if not isinstance(error, NoGpu) and (not isinstance(error, MissingExtra) or _NVIDIA.exists()):
                notes.append(f"on the processor, not on the GPU: {error}")
    return OpenVinoBackend(model, config.segmentation.precision), notes


def _opened(model: ModelFile, config: Config, by_onnxruntime: bool) -> tuple[Driver, Engine]:
    driver = CudaDriver()
    try:
        if by_onnxruntime:
            rows, columns = _window(model, config)
            return driver, OnnxRuntimeEngine(model, config.segmentation.precision, rows, columns, driver)
        library = Library()
        engine = open_engine(engine_cache(), library, model, wanted_engine(model, config, library, driver))
        if isinstance(engine, Miss):
            raise GpuError(f"{engine.reason}: {BUILD}")
    except BaseException:
        driver.close()
        raise
    return driver, engine


def _window(model: ModelFile, config: Config) -> tuple[int, int]:
    """Rows and columns of the largest there can be."""
    return config.assembly.strip_rows + 2 * model.info.halo, config.segmentation.window_width_px
