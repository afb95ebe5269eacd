"""Tables with commas, as people and competitions write them."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from calibration.network.datasets.dataset import DatasetError
from edge.core.reading import one_line, read_file

MAX_TABLE_BYTES = 1 << 30


def read_table(path: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Rows by the names in the first line, with their line numbers; None for what a row lacks. Raises DatasetError."""
    csv.field_size_limit(MAX_TABLE_BYTES)  # the runs of a speckled mask are longer than the module's limit
    rows = csv.DictReader(io.StringIO(read_file(path, MAX_TABLE_BYTES, DatasetError).decode("utf-8", "replace")))
    try:
        for row in rows:
            yield rows.line_num, {str(name): value for name, value in row.items() if not isinstance(value, list)}
    except csv.Error as error:
        raise DatasetError(f"{path}: line {rows.line_num + 1}: not a table ({one_line(error)})") from error
