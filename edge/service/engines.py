"""`foilsight engine`: engines are made beforehand, by hand, since making one on the line would hold it up."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from edge.core.config import load_config

if TYPE_CHECKING:
    from edge.core.gpu import Driver
    from edge.segmentation.engine_cache import MadeFor

ConfigFile = Annotated[Path | None, Parameter(name="--config")]
Json = Annotated[bool, Parameter(name="--json", negative="")]


def build(model: Path | None = None, *, config: ConfigFile = None) -> int:
    """Make the engine that a line needs on this machine; nothing is done where it is there.

    With TensorRT-RTX no GPU is needed, and the engine fits any that it knows.

    Parameters
    ----------
    model
        ONNX file; without one, the configuration's, or the one that came with Foilsight.
    config
        Configuration (TOML) of the line: its strips, windows and precision.
    """
    from edge.segmentation.engine_cache import Miss
    from edge.segmentation.model import load_model
    from edge.segmentation.tensorrt import Library, build_into
    from edge.service.backends import engine_cache, wanted_engine

    settings, library, cache = load_config(config), Library(), engine_cache()
    opened = load_model(model or settings.segmentation.model)
    with ExitStack() as stack:
        made_for = wanted_engine(opened, settings, library, _gpu(stack))
        name = f"{opened.path}: engine {made_for.key[:12]} of {made_for.library} {made_for.version}"
        where = f"{made_for.precision}, windows up to {made_for.rows} x {made_for.columns} px, for {_gpus(made_for)}"
        if not isinstance(cache.find(made_for), Miss):
            print(f"{name} is there: {where}")
            return 0
        print(f"{name} is being made: {where}", file=sys.stderr)
        sidecar = build_into(cache, library, opened, made_for)
    print(f"{name} made in {sidecar.seconds:.1f} s, {sidecar.size / 1e6:.1f} MB: {where}")
    return 0


def list_engines(*, json: Json = False) -> int:
    """The engines in the cache.

    Parameters
    ----------
    json
        One JSON array.
    """
    from edge.service.backends import engine_cache

    engines = list(engine_cache().all())
    if json:
        print(msgspec.json.encode(engines).decode())
        return 0
    if not engines:
        print(f"{engine_cache().folder}: no engines; foilsight engine build makes one")
        return 0
    for sidecar in engines:
        made_for = sidecar.made_for
        print(
            f"{made_for.key[:12]}  {sidecar.path} ({made_for.model[:12]}), {made_for.library} {made_for.version}, "
            f"{made_for.precision}, windows up to {made_for.rows} x {made_for.columns} px, for {_gpus(made_for)}, "
            f"{sidecar.size / 1e6:.1f} MB, made {sidecar.made_utc[:16]}"
        )
    return 0


def check(*, config: ConfigFile = None) -> int:
    """Whether a line would run on the GPU here: exit code 0; if not, why, and exit code 1.

    Parameters
    ----------
    config
        Configuration (TOML) of the line.
    """
    from edge.core.gpu import GpuError
    from edge.segmentation.model import load_model
    from edge.service.backends import open_backend
    from edge.service.options import settings_of

    settings = settings_of(config, require_gpu=True)
    try:
        backend, _ = open_backend(load_model(settings.segmentation.model), settings)
    except GpuError as error:
        print(error)
        return 1
    print(f"the line would run on {backend.name}, {backend.precision}")
    return 0


def _gpu(stack: ExitStack) -> "Driver | None":
    from edge.core.cuda import CudaDriver
    from edge.core.gpu import NoGpu

    try:
        driver = CudaDriver()
    except NoGpu:
        return None
    stack.callback(driver.close)
    return driver


def _gpus(made_for: "MadeFor") -> str:
    capabilities = ", ".join(f"sm_{capability}" for capability in made_for.capability.split(","))
    return capabilities if made_for.gpu == "any" else f"{made_for.gpu} ({capabilities}, driver {made_for.driver})"
