"""The lights of the rendered machine."""

from edge.core.line_light import LineLight

FOUR_LINE_LIGHTS = (
    LineLight(azimuth_deg=45.0, intensity=1.0),
    LineLight(azimuth_deg=135.0, intensity=0.94),
    LineLight(azimuth_deg=225.0, intensity=1.05),
    LineLight(azimuth_deg=315.0, intensity=0.98),
)
"""Four bars at 45 degrees to transport, polar angle 55 degrees (the thesis's machine); no two lamps alike."""
