"""An open device and its buffers.

Harvesters finds it, loads its description and announces buffers. Buffers are taken straight from the new-buffer event:
Harvesters' own `fetch` never returns while every buffer is incomplete, and `try_fetch` drops what is incomplete.
"""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from genicam import genapi, gentl
from harvesters.core import Harvester, ImageAcquirer, ParameterKey, ParameterSet

from edge.camera.genicam.devices import about, choose, open_harvester
from edge.camera.genicam.nodes import FAILURES, FeatureNodes, told

MIN_BUFFERS, MAX_BUFFERS = 16, 256
BUFFER_BYTES = 128 << 20
"""Announced to the producer: a third of a second of 400 MB/s, for a machine that is busy elsewhere."""
_WAIT_MS = 2
"""The binding keeps Python's lock while it waits for a buffer."""
_SILENCE_S = 1.0
"""After this long without a buffer the camera is asked whether it is still there."""


class Connection:
    """An open device with its Harvester: both end together."""

    def __init__(self, producers: Sequence[Path], device: str) -> None:
        self._harvester: Harvester = open_harvester(producers)
        self._chunk_nodes: dict[str, Any] = {}
        try:
            found = choose(device, self._harvester.device_info_list)
            self.device = about(found)
            with told(f"{self.device}: cannot be opened"), _interrupt_handler_kept():
                chunks_by_hand = ParameterSet({ParameterKey.ENABLE_AUTO_CHUNK_DATA_UPDATE: False})
                self._acquirer: ImageAcquirer = self._harvester.create(found, config=chunks_by_hand)
                self._events = next(iter(self._acquirer._new_buffer_event_monitor_dict.values()))
        except BaseException:
            self.close()
            raise
        self.nodes = FeatureNodes(self._acquirer.remote_device.node_map, str(self.device))
        self._heard_s = time.monotonic()

    @property
    def underruns(self) -> int:
        return int(said(0, self._acquirer.data_streams[0], "num_underrun"))

    def start(self) -> None:
        with told(f"{self.device}: cannot be started"):
            self._acquirer.num_buffers = max(self._buffers(), self._acquirer.min_num_buffers)
            self._acquirer.start()
        self._heard_s = time.monotonic()

    def _buffers(self) -> int:
        image_bytes = int(self.nodes.read("PayloadSize")) if self.nodes.has("PayloadSize") else 0
        return min(max(BUFFER_BYTES // max(image_bytes, 1), MIN_BUFFERS), MAX_BUFFERS)

    def stop(self) -> None:
        with told(f"{self.device}: cannot be stopped"):
            self._acquirer.stop()

    def wait(self, left_s: float) -> Any:
        """The next buffer, or None after a short while. Raises what the binding raises when the device is gone."""
        try:
            self._events.update_event_data(max(0, min(_WAIT_MS, int(left_s * 1000))))
        except gentl.TimeoutException:
            if time.monotonic() - self._heard_s > _SILENCE_S:
                self.nodes.refresh()
                self._heard_s = time.monotonic()
            return None
        self._heard_s = time.monotonic()
        return self._events.buffer

    def read_chunks(self, features: dict[str, str]) -> None:
        """From now on read these of each buffer: field of Shot to feature."""
        self._chunk_nodes = {field: self.nodes.raw(feature) for field, feature in features.items()}

    def chunks(self, buffer: Any) -> dict[str, Any]:
        """What came with an image. The adapter is emptied first, or it would go on to tell of the buffer before."""
        found: dict[str, Any] = {}
        if self._chunk_nodes:
            adapter = self._acquirer._chunk_adapter
            adapter.detach_buffer()
            with suppress(*FAILURES):  # without chunks a shot says that it does not know
                if isinstance(adapter, genapi.ChunkAdapterGeneric):
                    adapter.attach_buffer(buffer.raw_buffer, buffer.chunk_data_info_list)
                else:
                    filled = said(buffer.size, buffer, "size_filled")
                    adapter.attach_buffer(buffer.raw_buffer, said(filled, buffer, "delivered_chunk_payload_size"))
                for field, node in self._chunk_nodes.items():
                    with suppress(*FAILURES):
                        found[field] = node.value
        return found

    def device_ns(self, buffer: Any) -> int | None:
        """The camera's own time of an image; None where it has none."""
        stamp: int | None = said(None, buffer, "timestamp_ns")
        if stamp is None:
            ticks, ticks_per_s = said(0, buffer, "timestamp"), said(0, self._acquirer.device, "timestamp_frequency")
            stamp = ticks * 1_000_000_000 // ticks_per_s if ticks_per_s else 0
        return stamp or None

    def close(self) -> None:
        """Let go of everything. The producer of a lost camera refuses some of it, which changes nothing."""
        for acquirer in self._harvester.image_acquirers:
            adapter = acquirer._chunk_adapter
            try:
                acquirer.destroy()
            except FAILURES:  # it gives up where the camera cannot be told to stop; the second time it does not try
                for stream in acquirer.data_streams:
                    with suppress(*FAILURES):
                        stream.stop_acquisition(gentl.ACQ_STOP_FLAGS_LIST.ACQ_STOP_FLAGS_KILL)
                with suppress(*FAILURES):
                    acquirer.destroy()
            for owner in (acquirer, adapter):
                owner._finalizer.detach()  # it would keep its owner, and all that the owner knows, for ever
        self._harvester.image_acquirers.clear()
        with suppress(*FAILURES):
            self._harvester.reset()


def said(default: Any, module: Any, name: str) -> Any:
    """What a GenTL module says, or `default` where it does not."""
    try:
        return getattr(module, name)
    except (*FAILURES, AttributeError):
        return default


@contextmanager
def _interrupt_handler_kept() -> Iterator[None]:
    """Harvesters takes ctrl-C for itself when it opens something on the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
