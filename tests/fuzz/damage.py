"""Damage that knows no format: to bytes, and to trees of tables, lists and values as TOML and JSON write them."""

import json
from random import Random
from typing import Any

INTEGERS = (0, 1, 2, 3, 5, 7, 0x7F, 0x80, 0xFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
FLOATS = ("0.0", "-0.0", "1e-320", "5e-324", "1e-30", "1e30", "1.7e308", "-1e308", "nan", "inf", "-inf", "1e999")
TEXTS = (
    "",
    "x",
    " ",
    "\0",
    "a\nb",
    "\x1b[2J",
    "\u202egnp",
    "\u2028",
    "\ud800",
    "ä" * 300,
    "x" * 2000,
    "../../../etc/passwd",
    "/dev/zero",
    "12",
    "nan",
    "-1",
    "9" * 4400,
    "1_000",
    "tcp://*:*",
)
_TOKENS = tuple(b'\n \0 \xff " """ \'\'\' [ ] { } = . , \\u0000 \xed\xa0\x80'.split(b" "))


class Literal(str):
    """Text that stands in a document as it is."""


def damaged_bytes(data: bytes, random: Random) -> bytes:
    """`data` with one piece of it changed, cut out, doubled or put in."""
    out = bytearray(data)
    at = random.randrange(len(out) + 1)
    end = min(len(out), at + random.choice((1, 1, 2, 4, 8, 64, 1024)))
    match random.randrange(8):
        case 0 if at < len(out):
            out[at] ^= 1 << random.randrange(8)
        case 1 if at < len(out):
            out[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF))
        case 2:
            del out[at:]
        case 3:
            del out[at:end]
        case 4:
            out[at:at] = out[at:end]
        case 5:
            out[at:at] = random.choice(_TOKENS)
        case 6:
            size = random.choice((1, 2, 4, 8))
            out[at : at + size] = (random.choice(INTEGERS) % (1 << 8 * size)).to_bytes(size, "little")
        case _:
            there = random.randrange(len(out) + 1)
            out[at:end] = out[there : there + end - at]
    return bytes(out)


def any_value(random: Random) -> Any:
    """A value that hardly any field expects."""
    match random.randrange(8):
        case 0:
            return random.choice(INTEGERS) * random.choice((1, 1, -1))
        case 1 | 2:
            return Literal(random.choice(FLOATS))
        case 3:
            return random.choice(TEXTS)
        case 4:
            return random.choice((True, False, [], {}, [[]], {"": 1}, [0.0] * 3, [1] * 3, None))
        case 5:
            return Literal("9" * random.choice((20, 400, 4400)))
        case 6:
            depth = random.choice((5, 200, 1200))
            return Literal(random.choice(("[" * depth, "[" * depth + "]" * depth, '{"a":' * depth)))
        case _:
            return Literal(random.choice(("1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "0x7f", "1e", "+", "'''")))


def damaged_tree(tree: Any, random: Random) -> Any:
    """A copy of a tree of dicts, lists and values with one node replaced, left out, doubled, moved or renamed."""
    if not isinstance(tree, (dict, list)) or not tree or random.randrange(12) == 0:
        return any_value(random)
    copy: Any = tree.copy()
    keys = list(copy) if isinstance(copy, dict) else range(len(copy))
    key = random.choice(keys)
    match random.randrange(10):
        case 0 if isinstance(copy, dict):
            del copy[key]
        case 0:
            copy.pop(key)
        case 1 if isinstance(copy, dict):
            copy[random.choice(TEXTS)] = copy.pop(key)
        case 1:
            copy.extend([copy[key]] * random.choice((1, 3, 60)))
        case 2:
            copy[key] = random.choice(([copy[key]], {"a": copy[key]}, [copy[key], copy[key]]))
        case 3:
            copy[key] = copy[random.choice(keys)]
        case _:
            copy[key] = damaged_tree(copy[key], random)
    return copy


def written(tree: Any, assign: str) -> str:
    """A tree as JSON (`assign` ":") or as a value of TOML (`assign` "=")."""
    if isinstance(tree, Literal):
        return str(tree)
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{_quoted(key)} {assign} {written(value, assign)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(written(value, assign) for value in tree) + "]"
    if isinstance(tree, str):
        return _quoted(tree)
    return json.dumps(tree) if isinstance(tree, bool) or tree is None else str(tree)  # dates and times among them


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def encoded(text: str) -> bytes:
    """UTF-8, and what is not UTF-8 where the text holds halves of characters."""
    return text.encode("utf-8", "surrogatepass")
