"""What executes a model."""

from typing import Protocol, runtime_checkable

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


class RowByRow(Protocol):
    """One model on a web that is given to it from the top down, each row once; see `RowBackend.row_by_row`."""

    def begin(self) -> None:
        """Another web comes: above it there is nothing."""
        ...

    def push(self, surface: F32) -> tuple[U8, U8]:
        """Class index and score of as many rows as come, those `behind` them: [1,H,W] u8, until the next call.

        `surface` is [1,C,H,W] f32, C-contiguous. What comes of the first 2 `behind` rows after `begin` is of no use:
        the network takes what is above for web. Raises ModelError where the model cannot be executed.
        """
        ...


@runtime_checkable
class RowBackend(Backend, Protocol):
    """A backend that can go on where it was on a web, instead of looking at halos again."""

    def row_by_row(self, shape: tuple[int, int, int, int], behind: int) -> RowByRow | None:
        """The model on its own web, [1,C,H,W] at a time, compiled by then; None for a model of which it is not known
        how far it looks, or which looks farther than `behind` rows. Raises ModelError."""
        ...
