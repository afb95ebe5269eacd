"""A camera's own counters as this computer can use them: its clock and its frame ids."""

from collections import deque

_WINDOW_NS = 2_000_000_000
_LAST_OF_16_BITS = 0xFFFF
_NEAR_WRAP = 0x1000


class DeviceClock:
    """Brings device timestamps onto this computer's monotonic clock.

    Offset = minimum of arrival - device time over a sliding window of two seconds: the frame that waited least. Times
    are thus late by the shortest transfer there is, and off by what the clocks drift apart in the window (0.1 ms at
    50 ppm). A device clock that goes back has been restarted and is learnt anew.
    """

    def __init__(self) -> None:
        self._least: deque[tuple[int, int]] = deque()
        self._last_device_ns = 0

    def exposed_ns(self, device_ns: int, arrived_ns: int) -> int:
        """The time of an exposure from its device timestamp; frames are to be given in order of arrival."""
        if device_ns < self._last_device_ns:
            self._least.clear()
        self._last_device_ns = device_ns
        offset = arrived_ns - device_ns
        while self._least and self._least[-1][1] >= offset:
            self._least.pop()
        self._least.append((arrived_ns, offset))
        while self._least[0][0] < arrived_ns - _WINDOW_NS:
            self._least.popleft()
        return device_ns + self._least[0][1]


class FrameIds:
    """Frame ids that never wrap: GigE Vision 1 counts 1..65535 and goes on with 1, which would shift every light.

    An id that goes back anywhere else is a device that started anew: it is handed on as it is.
    """

    def __init__(self) -> None:
        self._last = -1
        self._base = 0

    def unwrapped(self, frame_id: int) -> int:
        """The id as it would be had the counter more bits."""
        if frame_id < self._last:
            wrapped = _LAST_OF_16_BITS - _NEAR_WRAP < self._last <= _LAST_OF_16_BITS and 0 < frame_id < _NEAR_WRAP
            self._base = self._base + _LAST_OF_16_BITS if wrapped else 0
        self._last = frame_id
        return self._base + frame_id
