"""A progress bar along the web, on the terminal's error stream so that standard output stays clean."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn


@contextmanager
def count_progress(what: str, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show how many of how many are done while the block runs; the block calls what it is given with both."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=32), TextColumn("{task.completed}/{task.total}"))
    with _bar(columns, quiet) as progress:
        task = progress.add_task(what, total=None)

        def at(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield at


@contextmanager
def web_progress(what: str, web_mm: float | None, quiet: bool = False) -> Iterator[Callable[[float], None]]:
    """Show position on the web and speed while the block runs; the block calls what it is given with the position.

    `web_mm`: length in millimetres, None where it cannot be known.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        TextColumn("{task.fields[position]}"),
        TimeRemainingColumn(),
    )
    with _bar(columns, quiet) as progress:
        task = progress.add_task(what, total=web_mm, position="")
        started_s = progress.get_time()

        def at(position_mm: float) -> None:
            speed = position_mm / max(1e-3, progress.get_time() - started_s)
            progress.update(task, completed=position_mm, position=f"{position_mm:8.0f} mm  {speed:6.0f} mm/s")

        yield at


def _bar(columns: tuple[ProgressColumn, ...], quiet: bool) -> Progress:
    """A bar that vanishes when done, and never appears where nobody looks at a terminal."""
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
