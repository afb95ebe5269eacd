"""TOML with one thing wrong."""

import tomllib
from random import Random
from typing import Any

from .damage import damaged_tree, encoded, written

_FRAGMENTS = (
    "a = 1\na = 2\n",
    "[line]\n",
    "[[light]]\n",
    "[[light]]\ndirection = [0, 0, 1]\nfiles = '0.tga'\n",
    "line.a = 1\n",
    "x = " + "9" * 4400 + "\n",
    "x = " + "[" * 1200 + "\n",
    ".".join("a" * 200) + " = 1\n",
    "[" + ".".join("a" * 200) + "]\n",
    "x = 1979-13-45\n",
    "\x00\n",
    "\x7f\n",
    '"\\uD800" = 1\n',
)


def damaged_toml(data: bytes, random: Random) -> bytes:
    """Raises ValueError where `data` is not TOML to begin with."""
    if random.randrange(6) == 0:
        fragment = random.choice(_FRAGMENTS).encode()
        return fragment + data if random.randrange(2) else data + fragment
    tree: Any = damaged_tree(tomllib.loads(data.decode()), random)
    if not isinstance(tree, dict):
        return encoded(written(tree, "="))
    return encoded("".join(f"{written(key, '=')} = {written(value, '=')}\n" for key, value in tree.items()))
