"""When what has ended by itself is started again."""


class Pauses:
    """How long to wait each time: not at all after something that lived for `steady_s`, otherwise `least_s`, and twice
    as long as the time before, but never longer than `most_s`."""

    def __init__(self, steady_s: float, least_s: float, most_s: float) -> None:
        self._steady_s, self._least_s, self._most_s = steady_s, least_s, most_s
        self._pause_s = 0.0

    def after(self, lived_s: float) -> float:
        """Seconds to wait after something that lived for so long."""
        longer_s = min(max(self._least_s, 2 * self._pause_s), self._most_s)
        self._pause_s = 0.0 if lived_s > self._steady_s else longer_s
        return self._pause_s
