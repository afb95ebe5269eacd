"""The outline of a component and the shape of its hull, in pixels; points are (x, y) = (column, row)."""

import math
from collections import defaultdict
from typing import Any

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from edge.core.types import U8

Points = NDArray[np.int32]

POINTS_PER_EVENT = 256
HULL_POINTS = 512
_MAX_HOLES = 64
_TOLERANCE_PX = 0.5


def outlines(mask: U8) -> list[list[Points]]:
    """Each connected part of `mask` (h, w) as its outer polygon and holes, (n, 2) i32, filled by the even-odd rule.

    True to 0.5 px; where that would take more than 256 points, holes beyond the part's 64 largest are left out and the
    tolerance doubles until the rest fits.
    """
    contours, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outers: dict[int, NDArray[Any]] = {}
    holes: defaultdict[int, list[NDArray[Any]]] = defaultdict(list)
    for i, (contour, parent) in enumerate(zip(contours, tree[0][:, 3].tolist(), strict=True)):
        if parent < 0:
            outers[i] = contour
        else:
            holes[parent].append(contour)
    return [_fitted(outer, holes[i]) for i, outer in outers.items()]


def _fitted(outer: NDArray[Any], holes: list[NDArray[Any]]) -> list[Points]:
    if len(holes) > _MAX_HOLES:
        holes = sorted(holes, key=cv2.contourArea, reverse=True)[:_MAX_HOLES]
    tolerance = _TOLERANCE_PX
    while True:
        polygons = [_simplified(outer, tolerance)]
        polygons += [hole for hole in (_simplified(hole, tolerance) for hole in holes) if len(hole) > 2]
        if sum(map(len, polygons)) <= POINTS_PER_EVENT:
            return polygons
        tolerance *= 2


def convex_hull(points: Points) -> Points:
    """The convex hull (n, 2) i32 of points; thinned out where exact it would take more than 512 points.

    Only a round defect larger than about 3,600 px across has so many; each thinning moves the hull by at most a few px.
    """
    return thinned(_points(cv2.convexHull(points)), HULL_POINTS)


def thinned(polygon: Points, most: int) -> Points:
    """A polygon (n, 2) i32 with at most `most` of its points, the tolerance doubling from 0.5 px until they suffice."""
    tolerance = _TOLERANCE_PX
    while len(polygon) > most:
        polygon = _simplified(polygon, tolerance)
        tolerance *= 2
    return polygon


def smallest_rectangle(hull: NDArray[Any]) -> tuple[float, float, float]:
    """Length, width (between point centres) and orientation (degrees in (-90, 90]) of the smallest rectangle.

    One side of it lies on an edge of the hull, so every edge is tried. Among rectangles of equal area the longest
    wins, then the one nearest to the x axis: one set of points has one answer, in whatever order it comes.
    """
    length_squared, width_squared, orientation_deg = _smallest_rectangle(np.ascontiguousarray(hull, np.float64))
    return math.sqrt(length_squared), math.sqrt(width_squared), orientation_deg


@njit(nogil=True, cache=True)
def _smallest_rectangle(points: NDArray[np.float64]) -> tuple[float, float, float]:
    """Length and width squared, and orientation."""
    best = (math.inf, 0.0, 0.0, 0.0)
    width_squared = 0.0
    for i in range(len(points) if len(points) > 1 else 0):
        x, y = points[(i + 1) % len(points)] - points[i]
        along, across = _extent(points, x, y), _extent(points, -y, x)
        angle = math.degrees(math.atan2(x, -y) if across > along else math.atan2(y, x))
        if angle > 90:
            angle -= 180
        elif angle <= -90:
            angle += 180
        square = x * x + y * y
        tried = (along * across / square, -(max(along, across) ** 2) / square, abs(angle), -angle)
        if tried < best:
            best, width_squared = tried, min(along, across) ** 2 / square
    return 0.0 - best[1], width_squared, 0.0 - best[3]


@njit(nogil=True, cache=True, inline="always")
def _extent(points: NDArray[np.float64], x: float, y: float) -> float:
    """How far points reach along a direction, times its length."""
    least, most = math.inf, -math.inf
    for i in range(len(points)):
        at = points[i, 0] * x + points[i, 1] * y
        least, most = min(least, at), max(most, at)
    return most - least


def _simplified(contour: NDArray[Any], tolerance_px: float) -> Points:
    return _points(cv2.approxPolyDP(contour, tolerance_px, closed=True))


def _points(contour: object) -> Points:
    points: Points = np.asarray(contour, np.int32).reshape(-1, 2)
    return points
