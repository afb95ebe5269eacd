"""What goes through the stages of an inspection."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.core.types import U8, Alarm, ClassMap, Surface
from edge.pipeline.changing import Turn

Take = Callable[[], "Passage"]
"""An idle passage, as soon as there is one."""


class Memory(NamedTuple):
    """Memory for what a strip becomes, made once and written again and again."""

    surface: Surface
    class_map: ClassMap


class Decided(NamedTuple):
    """A class map; `lost` (rows,) bool: rows that were seen and not decided, None for none, and `why` in words."""

    class_map: ClassMap
    lost: NDArray[np.bool_] | None = None
    why: str = ""


@dataclass(eq=False)
class Passage:
    """A strip as it is now, and the alarms and the end of the roll behind it.

    `memory` is the passage's own: it is overwritten when the passage, having left the last stage, is taken again.
    `read_ns`: when the frame that completed the strip was read; `turns`: what changes, on rows no earlier passage holds
    class maps of.
    """

    memory: Memory
    read_ns: int = 0
    lights_seen: U8 | None = None
    surface: Surface | None = None
    decided: Sequence[Decided] = ()
    alarms: Sequence[Alarm] = ()
    turns: Sequence[Turn] = ()
    is_last: bool = False
