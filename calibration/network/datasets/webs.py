"""Webs as data: rendered ones, as many as there are seeds, and recordings that hold their truth."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from calibration.network.datasets.dataset import Dataset, DatasetError, Entry, Meta
from calibration.network.rendered import rendered_web, surface_of, varied_camera
from edge.core.types import F32, U8
from edge.recording.reader import Recording
from edge.simulation.planting import LABELS


class _Seeds(Sequence[Entry]):
    """An entry for each seed of a range, however long it is."""

    def __init__(self, seeds: range, length_mm: float, width_px: int, channels: tuple[str, ...]) -> None:
        self._seeds, self._length_mm, self._width_px, self._channels = seeds, length_mm, width_px, channels

    def __len__(self) -> int:
        return len(self._seeds)

    def __getitem__(self, at):  # type: ignore[no-untyped-def]
        if isinstance(at, slice):
            return _Seeds(self._seeds[at], self._length_mm, self._width_px, self._channels)
        name = f"rendered web {self._seeds[at]}"
        return Entry(Meta(name, name), partial(self._render, self._seeds[at]))

    def _render(self, seed: int) -> tuple[F32, U8]:
        return rendered_web(varied_camera(seed, self._length_mm, self._width_px), self._channels)


def open_rendered(seeds: range, length_mm: float, width_px: int, channels: Sequence[str]) -> Dataset:
    """Webs rendered when they are asked for, one a seed, through the stages of the line; a web is a group."""
    return Dataset("rendered webs", LABELS, tuple(channels), _Seeds(seeds, length_mm, width_px, tuple(channels)))


def open_recordings(paths: Sequence[Path], channels: Sequence[str]) -> Dataset:
    """Recordings of rendered webs, through the stages of the line; a recording is a group.

    Raises RecordingError, and DatasetError for a recording without truth.
    """
    entries = [Entry(Meta(path.name, path.stem), partial(_load, path, tuple(channels))) for path in paths]
    return Dataset("recordings", LABELS, tuple(channels), entries)


def _load(path: Path, channels: tuple[str, ...]) -> tuple[F32, U8]:
    recording = Recording(path)
    if not recording.has_truth:
        raise DatasetError(f"{path}: holds no truth to train on: only rendered webs do")
    return surface_of(recording, recording.truth_rows, channels)
