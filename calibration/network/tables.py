"""Tables in plain text, as wide as what they hold."""

from collections.abc import Sequence

Cell = str | int | float


def text_table(head: Sequence[str], rows: Sequence[Sequence[Cell]], words: int = 1) -> str:
    """Lines of columns; the first `words` columns start at the left, the others end at the right.

    Integers get thousands separators, other numbers four significant digits; a row shorter than `head` ends early.
    """
    lines = [list(head), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines if at < len(line)) for at in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at < words else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=False))
        ).rstrip()
        for line in lines
    )


def _text(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}"
