"""The features of a camera through GenApi, and what the binding raises as errors of ours."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from genicam import genapi, gentl

from edge.camera.features import Value
from edge.core.errors import CameraError
from edge.core.reading import one_line

FAILURES = (gentl.GenericException, genapi.GenericException)
_COMMAND_S = 2.0


class FeatureNodes:
    """The features of a GenApi node map, as the strobe plan asks for them. `camera` names it in errors."""

    def __init__(self, node_map: Any, camera: str) -> None:
        self._map = node_map
        self._camera = camera

    def has(self, feature: str) -> bool:
        """Whether the camera implements it, and not as a mere heading."""
        try:
            node = self._map.get_node(feature)
            return bool(genapi.is_implemented(node.node)) and not isinstance(node, genapi.ICategory)
        except FAILURES:
            return False

    def is_float(self, feature: str) -> bool:
        """Whether its value is a floating-point number."""
        return isinstance(self._node(feature), genapi.IFloat)

    def entries(self, feature: str) -> list[str]:
        """What an enumeration can be set to."""
        node = self._node(feature)
        with told(f"{self._camera}: {feature} cannot be read"):
            return [entry.symbolic for entry in node.entries if genapi.is_implemented(entry.node)]

    def read(self, feature: str) -> Value:
        """Its value, from the camera."""
        node = self._node(feature)
        with told(f"{self._camera}: {feature} cannot be read"):
            value: Value = node.value
            return value

    def write(self, feature: str, value: Value | None) -> None:
        """Set it; without a value execute it, and wait until the camera has done so."""
        node = self._node(feature)
        try:
            if value is None:
                node.execute()
                self._await(feature, node)
            else:
                node.value = type(node.value)(value)
        except FAILURES as error:
            told = (
                f"{feature} = {value}{self._allowed(node)}" if value is not None else f"{feature} ({one_line(error)})"
            )
            raise CameraError(f"{self._camera} does not accept {told}") from error

    def refresh(self) -> None:
        """Read something from the camera itself. Raises what the binding raises when it is gone."""
        self._map._invalidate_nodes()
        self._map.get_node("Width").get_value(ignore_cache=True)

    def raw(self, feature: str) -> Any:
        """The node itself."""
        return self._node(feature)

    def _await(self, feature: str, node: Any) -> None:
        end = time.monotonic() + _COMMAND_S
        while not node.is_done():
            if time.monotonic() > end:
                raise CameraError(f"{self._camera} does not finish {feature} within {_COMMAND_S:g} s")
            time.sleep(0.001)

    def _node(self, feature: str) -> Any:
        try:
            return self._map.get_node(feature)
        except FAILURES as error:
            raise CameraError(f"{self._camera} has no feature {feature}") from error

    @staticmethod
    def _allowed(node: Any) -> str:
        try:
            if hasattr(node, "symbolics"):
                return f": it knows {', '.join(node.symbolics)}"
            if hasattr(node, "min"):
                step = f" in steps of {node.inc:g}" if isinstance(node, genapi.IInteger) else ""
                return f": it can be from {node.min:g} to {node.max:g}{step}"
        except FAILURES:
            pass  # a feature that cannot even say its range is refused without it
        return ""


@contextmanager
def told(what: str) -> Iterator[None]:
    """Failures of the binding as a CameraError that begins with `what`."""
    try:
        yield
    except (*FAILURES, StopIteration) as error:
        raise CameraError(f"{what} ({one_line(error)})") from error
