"""Cameras through GenICam: the one place that knows Harvesters and the GenICam binding."""

from edge.camera.genicam.camera import CameraCounts, GenICamCamera
from edge.camera.genicam.devices import DeviceInfo, discover

__all__ = ["CameraCounts", "DeviceInfo", "GenICamCamera", "discover"]
