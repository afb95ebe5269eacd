"""A camera over a rendered web, opened in whatever process acquires: its exposures come at a steady rate, then none."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from edge.camera.shot import Shot
from edge.core.config import CameraConfig
from edge.core.types import Frame, Pixels
from edge.simulation.camera import StrobedCamera


class RenderedCamera:
    """Says by its active set which light fired; `cross_wired`: the first two lamps have each other's plug; `signalled`:
    sent to the process that owns the camera when the web is through."""

    underruns = 0
    connected = True

    def __init__(
        self,
        config: CameraConfig,
        web: StrobedCamera,
        fps: float,
        cross_wired: bool = False,
        signalled: signal.Signals | None = None,
    ) -> None:
        self._signalled = signalled
        self._mm_per_count = config.encoder_mm_per_count
        self._web, self._interval_s, self._cross_wired = web, 1 / fps, cross_wired
        self._frames: Iterator[Frame] = iter(())
        self._due_s = 0.0

    def __enter__(self) -> "RenderedCamera":
        self._frames = iter(list(self._web.frames()))
        return self

    def __exit__(self, *_: Any) -> None: ...

    def start(self) -> None:
        self._due_s = time.monotonic()

    def next_into(self, out: Pixels, deadline_s: float) -> Shot | None:
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        self._due_s += self._interval_s
        frame = next(self._frames, None)
        if frame is None:
            time.sleep(deadline_s)
            if self._signalled is not None:
                os.kill(os.getppid(), self._signalled)
                self._signalled = None
            return None
        out[:] = frame.pixels
        claimed = {0: 1, 1: 0}.get(frame.light, frame.light) if self._cross_wired else frame.light
        count = round(frame.encoder_mm / self._mm_per_count)
        return Shot(out, frame.frame_id, frame.exposed_ns, count, frame.exposure_us, active_set=claimed)
