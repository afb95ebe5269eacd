"""The simulated camera as a GenTL producer, compiled where it is first needed, and the film of web it looks at."""

import fcntl
import hashlib
import os
import shlex
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edge.core.errors import CameraError
from edge.core.faults import CameraFaultKind, Fault, FaultScript, FrameFaultKind
from edge.simulation.camera import StrobedCamera
from edge.simulation.gentl import features

FILM_VARIABLE = "FOILSIGHT_FILM"
"""Names the film; several, as in a search path, are as many cameras, with serial numbers from 1 on."""
Transport = Literal["Custom", "GEV", "U3V"]
_SOURCES = Path(features.__file__).parent
_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread")
_HEADER = struct.Struct("<8s8I5q")
_FAULT = struct.Struct("<2i2qd")
_PAGE, _MOST_FAULTS = 4096, 64
_KINDS = get_args(FrameFaultKind) + get_args(CameraFaultKind)
_TIMED = ("trigger_stops", "device_lost", "hang")


def producer(cache: Path) -> Path:
    """The compiled producer (.cti) in a cache folder, by the compiler CC, with CFLAGS where they are set. Raises
    CameraError where it cannot be compiled."""
    sources = sorted(_SOURCES.glob("*.[ch]"))
    generated = {"registers.h": features.header(), "description.h": _descriptions()}
    flags = [*_FLAGS, *shlex.split(os.environ.get("CFLAGS", ""))]
    said = b"".join(source.read_bytes() for source in sources) + repr((generated, flags)).encode()
    folder = cache / hashlib.sha256(said).hexdigest()[:16]
    compiled = folder / "foilsight.cti"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not compiled.exists():
            for name, text in generated.items():
                (folder / name).write_text(text)
            _compile([source for source in sources if source.suffix == ".c"], flags, folder, compiled)
    return compiled


def _compile(sources: list[Path], flags: list[str], folder: Path, out: Path) -> None:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise CameraError("the simulated camera is compiled on first use and there is no C compiler: install gcc")
    unfinished = out.with_suffix(".tmp")
    command = [compiler, *flags, f"-I{folder}", f"-I{_SOURCES}", "-o", str(unfinished), *map(str, sources), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if "error" in line] or ["no message"]
        raise CameraError(f"the simulated camera does not compile with {compiler}: {said[0]}")
    unfinished.rename(out)


def _descriptions() -> str:
    """Those of all ports as arrays for C."""
    texts = {"Device": features.description()} | {name: features.module_description(name) for name in features.MODULES}
    arrays = [
        f"static const unsigned char {name}_xml[] = {{{','.join(map(str, text.encode()))}}};"
        for name, text in texts.items()
    ]
    return "#pragma once\n" + "\n".join(arrays) + "\n"


def write_film(
    path: Path,
    web: StrobedCamera,
    mm_per_count: float,
    frames_per_s: float,
    repeats: bool = False,
    faults: FaultScript | None = None,
    progress: Callable[[float], None] = lambda _mm: None,
    *,
    transport: Transport = "Custom",
    padding_bytes: int = 0,
) -> None:
    """Render every exposure under every light for the producer to play; see `film.h` for the file.

    `frames_per_s` 0: as fast as they are taken. With `repeats` the film begins anew where it ends, as if spliced.
    The camera is on a transport layer of this type and sends `padding_bytes` after each line of an image. Raises
    CameraError where there is no room for it.
    """
    height, width, lights = web.rig.height_px, web.web.width_px, len(web.rig.lights)
    triggers = web.frame_count
    images_at = _PAGE * (1 + -(-triggers * 8 // _PAGE))
    counts = np.zeros(triggers, np.int64)
    interval_ns = round(1e9 / frames_per_s) if frames_per_s else 0
    script = FaultScript() if faults is None else faults
    try:
        with path.open("wb") as film:
            film.seek(images_at)
            for index, exposures in enumerate(web.exposures()):
                counts[index] = round(exposures[0].encoder_mm / mm_per_count)
                for frame in exposures:
                    film.write(frame.pixels.tobytes())
                progress(exposures[0].encoder_mm)
            film.seek(_PAGE)
            film.write(counts.tobytes())
            film.seek(0)
            a_round = int(counts[-1] + counts[1] - 2 * counts[0]) if triggers > 1 else 0
            compiled = [_compiled(fault, counts, mm_per_count, lights, interval_ns) for fault in script.fault]
            if len(compiled) > _MOST_FAULTS:
                raise CameraError(f"{len(compiled)} faults: the simulated camera plays {_MOST_FAULTS} at most")
            film.write(
                _HEADER.pack(
                    b"FOILFILM",
                    width,
                    height,
                    web.rig.bits,
                    triggers,
                    lights,
                    repeats,
                    list(features.TRANSPORTS).index(transport),
                    padding_bytes,
                    interval_ns,
                    a_round,
                    len(compiled),
                    0,
                    0,
                )
                + b"".join(compiled)
            )
    except OSError as error:
        raise CameraError(f"{path}: the simulated camera's film cannot be written ({error.strerror})") from error


def _compiled(fault: Fault, counts: NDArray[np.int64], mm_per_count: float, lights: int, interval_ns: int) -> bytes:
    """A fault by triggers: from which on, over how many; of the encoder in its counts."""
    at, over, value = fault.at_frame, fault.count, fault.value
    if at is None:
        at = int(np.searchsorted((counts - counts[0]) * mm_per_count, fault.at_mm or 0.0))
    if fault.kind in _TIMED and interval_ns:
        over = max(1, round(value * 1e9 / interval_ns))
    if fault.light is not None and fault.kind not in _TIMED:
        over *= lights
    if fault.kind == "wrong_light":
        value %= lights
    if fault.kind in ("encoder_jump", "encoder_jitter"):
        value /= mm_per_count
    return _FAULT.pack(_KINDS.index(fault.kind), -1 if fault.light is None else fault.light, at, over, value)
