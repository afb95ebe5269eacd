"""Which groups of a data set a network learns from, which choose its thresholds, and which judge it."""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """Names of groups; no group is in two of them."""

    training: list[str]
    validation: list[str]
    held_back: list[str]


def split_groups(classes_of: Mapping[str, frozenset[int]], validation: float, held_back: float, seed: int) -> Split:
    """Shares of the groups for validation and held back, the same of every kind of group; the rest is for training.

    `classes_of`: the classes that occur in each group; groups of the same ones are of a kind. Of a kind of three
    groups and more at least one goes each way that has a share.
    """
    kinds = defaultdict(list)
    for group, classes in classes_of.items():
        kinds[tuple(sorted(classes))].append(group)
    random = np.random.default_rng(seed)
    split = Split([], [], [])
    for kind in sorted(kinds):
        groups = [kinds[kind][at] for at in random.permutation(len(kinds[kind]))]
        apart = _count(held_back, len(groups))
        choosing = apart + _count(validation, len(groups))
        split.held_back.extend(groups[:apart])
        split.validation.extend(groups[apart:choosing])
        split.training.extend(groups[choosing:])
    return split


def _count(share: float, groups: int) -> int:
    """How many of a kind's groups make a share, so that the other parts are left some."""
    return max(round(share * groups), 1) if share and groups >= 3 else 0
