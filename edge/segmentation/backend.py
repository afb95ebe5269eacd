"""What executes a model."""

from typing import Protocol

from edge.core.types import F32, U8


class Backend(Protocol):
    """Executes one model. `name` and `precision` ("f32", "bf16", "int8") go into reports."""

    @property
    def name(self) -> str: ...

    @property
    def precision(self) -> str: ...

    def infer(self, surface: F32) -> tuple[U8, U8]:
        """Class index and score, both [N,H,W] u8, of a surface [N,C,H,W] f32.

        The surface is C-contiguous, H and W are multiples of the model's grid. The answer outlives the next one, not
        the one after that: who keeps it copies it.
        Raises ModelError where the model cannot be executed.
        """
        ...
