"""Cameras through GenICam: the one place that knows Harvesters and the GenICam binding."""

from edge.camera.genicam.camera import CameraCounts, GenICamCamera
from edge.camera.genicam.description import describe_plan
from edge.camera.genicam.devices import DeviceInfo, discover

__all__ = ["CameraCounts", "DeviceInfo", "GenICamCamera", "describe_plan", "discover"]
