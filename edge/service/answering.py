"""How a command answers: its exit code, and JSON for a program.

0 done; 1 done, but web inside the roll was not inspected or a check failed; 2 bad input or a missing part; 3 a fault of
Foilsight itself; 130 stopped by hand.
"""

import msgspec

EXIT_DONE, EXIT_NOT_ALL_INSPECTED, EXIT_BAD_INPUT, EXIT_FAULT, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


def print_json(value: object) -> None:
    """One JSON object on standard output."""
    print(msgspec.json.encode(value).decode())
