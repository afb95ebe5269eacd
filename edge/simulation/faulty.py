"""Plays a fault script on frames."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import get_args

import numpy as np

from edge.core.errors import ConfigError
from edge.core.faults import Fault, FaultKind, FaultScript, FrameFaultKind
from edge.core.types import Frame


class _Playing:
    """One fault and how much of it is still to come."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._left = fault.count
        self._begun = False

    def strikes(self, index: int, position_mm: float, light: int) -> bool:
        """Whether this frame is hit; to be asked once a frame."""
        fault = self.fault
        if not self._begun:
            self._begun = index == fault.at_frame or (fault.at_mm is not None and position_mm >= fault.at_mm)
        if not self._begun or self._left == 0 or (fault.light is not None and fault.light != light):
            return False
        self._left -= 1
        return True


def with_faults(frames: Iterable[Frame], script: FaultScript) -> Iterator[Frame]:
    """The frames as they arrive where the script has its way. Positions in the script count from the first frame.

    Raises ConfigError for a kind that only a camera can play.
    """
    for fault in script.fault:
        if fault.kind not in get_args(FrameFaultKind):
            raise ConfigError(f"the fault {fault.kind} needs a camera: give the script to foilsight run instead")
    playing = [_Playing(fault) for fault in script.fault]
    first_mm: float | None = None
    off_mm = 0.0
    held: Frame | None = None
    for index, frame in enumerate(frames):
        first_mm = frame.encoder_mm if first_mm is None else first_mm
        hit: dict[FaultKind, float] = {
            one.fault.kind: one.fault.value
            for one in playing
            if one.strikes(index, frame.encoder_mm - first_mm, frame.light)
        }
        off_mm += hit.get("encoder_jump", 0.0)
        frame = _spoilt(frame, hit, off_mm)
        if held is not None:
            yield replace(held, light=frame.light)
            yield replace(frame, light=held.light)
            held = None
        elif "swapped" in hit:
            held = frame
        elif "lost" not in hit:
            yield frame
            if "repeated" in hit:
                yield frame
    if held is not None:
        yield held


def _spoilt(frame: Frame, hit: dict[FaultKind, float], off_mm: float) -> Frame:
    if "encoder_jitter" in hit:
        off_mm += float(np.random.default_rng(frame.frame_id).normal(0.0, hit["encoder_jitter"]))
    pixels = frame.pixels
    if "dark" in hit or "incomplete" in hit:
        pixels = pixels.copy()
        if "dark" in hit:
            pixels[:] = (pixels * hit["dark"]).astype(pixels.dtype)
        if "incomplete" in hit:
            pixels[len(pixels) // 2 :] = 0
        pixels.setflags(write=False)
    return replace(
        frame,
        pixels=pixels,
        encoder_mm=frame.encoder_mm + off_mm,
        complete=frame.complete and "incomplete" not in hit,
    )
