"""Alarms on good web: every one of them is false. And what the watches cost beside assembly.

    python -m benchmarks.false_alarms [--metres 100] [--width-px 256] [--seed 41] [--json]

Production web with stains, on coarse grain that flutters by a millimetre, under all effects of real optics, is pushed
through assembly, surface and the watches, without network. Its lamps drift by 1 % to and fro every 0.7 m: true, but
gone again over a stretch that is long enough to be told so small a change.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from benchmarks.recall import PRODUCTION_STAINS_PER_M2
from edge.assembly.assembler import Assembler
from edge.core.types import Alarm, Frame, Strip
from edge.pipeline.lamp_watch import LampWatch
from edge.pipeline.surface_watch import SurfaceWatch
from edge.simulation.camera import Rig, StrobedCamera
from edge.simulation.optics import REAL
from edge.simulation.planting import PRODUCTION
from edge.simulation.web import COARSE, RenderedWeb
from edge.surface.solver import SurfaceSolver, empty_surface

STRIP_ROWS = 256
TELL_MM = 5000.0


class Timed:
    """Seconds of the processor, on all threads, by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        begin = time.process_time()
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + time.process_time() - begin

    def next(self, what: str, strips: Iterator[Strip]) -> Strip | None:
        """The next one, if any: they share their memory."""
        with self(what):
            return next(strips, None)


def good_web(width_px: int, length_mm: float, seed: int) -> StrobedCamera:
    """A camera over it."""
    web = RenderedWeb(seed, width_px, replace(PRODUCTION, stains=PRODUCTION_STAINS_PER_M2), coating=COARSE)
    return StrobedCamera(web, length_mm, Rig(optics=REAL))


def watched(camera: StrobedCamera, timed: Timed) -> Iterator[tuple[Frame, list[Alarm]]]:
    """Each frame and what it made the watches say."""
    calibration, pitch_mm = camera.calibration, camera.web.pitch_mm
    assembler, solver = Assembler(calibration, STRIP_ROWS, pitch_mm), SurfaceSolver(calibration)
    planes, memory = assembler.empty_planes(), empty_surface(STRIP_ROWS, calibration.width)
    lamps, checksum = LampWatch(calibration), SurfaceWatch(pitch_mm)
    for frame in camera.frames():
        alarms = []
        strips = assembler.push(frame, planes)
        while (strip := timed.next("assembly", strips)) is not None:
            with timed("surface"):
                surface = solver.solve(strip, memory)
            with timed("checksum watch"):
                alarms += checksum.push(surface)
        with timed("lamp watch"):
            alarms += lamps.push(frame)
        if assembler.counts.unusable:
            raise RuntimeError(f"a frame of good web was refused: {assembler.counts}")
        yield frame, alarms


def measure(width_px: int, metres: float, seed: int) -> dict[str, object]:
    """All figures of one run; alarms and progress are told as they come."""
    camera, timed, frames, told_mm = good_web(width_px, 1000.0 * metres, seed), Timed(), 0, 0.0
    said: list[str] = []
    for frame, alarms in watched(camera, timed):
        frames += 1
        said += [f"{alarm.kind}: {alarm.detail}" for alarm in alarms]
        for alarm in alarms:
            print(f"{frame.encoder_mm / 1000:8.3f} m  {alarm.kind}: {alarm.detail}", file=sys.stderr, flush=True)
        if frame.encoder_mm - told_mm >= TELL_MM:
            told_mm = frame.encoder_mm
            print(f"{told_mm / 1000:8.1f} m  {len(said)} alarms", file=sys.stderr, flush=True)
    each_us = {what: 1e6 * seconds / frames for what, seconds in timed.seconds.items()}
    watches = each_us["lamp watch"] + each_us.get("checksum watch", 0.0)
    return {
        "metres": metres,
        "width_px": width_px,
        "frames": frames,
        "alarms": said,
        "us_per_frame": each_us,
        "watches_to_assembly_and_surface": watches / (each_us["assembly"] + each_us["surface"]),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metres", type=float, default=100.0)
    parser.add_argument("--width-px", type=int, default=256)
    parser.add_argument("--seed", type=int, default=41)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the lines")
    options = parser.parse_args()
    found = measure(options.width_px, options.metres, options.seed)
    if options.json:
        print(json.dumps(found))
        return
    print(f"{found['metres']:g} m of {found['width_px']} px, {found['frames']} frames")
    print(f"false alarms: {len(found['alarms'])}")  # type: ignore[arg-type]
    for line in found["alarms"]:  # type: ignore[attr-defined]
        print(f"  {line}")
    print("a frame: " + ", ".join(f"{what} {us:.0f} us" for what, us in found["us_per_frame"].items()))  # type: ignore[attr-defined]
    print(f"the watches take {100 * found['watches_to_assembly_and_surface']:.1f} % of assembly and surface")  # type: ignore[operator]


if __name__ == "__main__":
    main()
