"""Stratified, seeded splits and subsets that are the same on every machine.

The draws are the raw output of PCG64 under a SeedSequence, which NumPy promises never to change; the methods
of its Generator carry no such promise, and a split that changed with NumPy would change every digest.
"""

from __future__ import annotations

import numpy as np

from spaces.datasets._spec import Array, Index
from spaces.errors import DatasetError


def split(
    labels: Array,
    *,
    classes: int,
    validation_size: int,
    seed: int,
    train_limit: int | None = None,
    validation_limit: int | None = None,
    least: int = 0,
) -> tuple[Index, Index]:
    """Indices of the training and of the validation part, each ascending and disjoint from the other.

    `labels` are (n,). The validation part takes each class in proportion, so that a balanced dataset gives
    balanced parts, and `least` of each class that has more. A limit keeps that many of a part: as many of each
    class, give or take one (a class that has too few gives all it has). What is kept depends on nothing but
    labels, seed and that limit, and a larger limit keeps what a smaller one did. Raises DatasetError for a limit
    above what the part has or below the number of classes, and for a negative seed.
    """
    if seed < 0:
        raise DatasetError(f"the seed of a split must be 0 or more, not {seed}")
    drawn = [_shuffled(np.flatnonzero(labels == c).astype(np.int64), seed, c) for c in range(classes)]
    held_out = _in_proportion([len(members) for members in drawn], validation_size, least)
    train = [members[n:] for members, n in zip(drawn, held_out, strict=True)]
    validation = [members[:n] for members, n in zip(drawn, held_out, strict=True)]
    return _kept(train, train_limit, "training"), _kept(validation, validation_limit, "validation")


def hold_out_a_fifth(labels: Array, *, classes: int, seed: int) -> tuple[Index, Index]:
    """Indices of four fifths of each class and of the fifth held out, at least one image of each; both ascending."""
    drawn = [_shuffled(np.flatnonzero(labels == c).astype(np.int64), seed, c) for c in range(classes)]
    held = [max(1, (len(members) + 2) // 5) for members in drawn]
    rest = np.concatenate([members[n:] for members, n in zip(drawn, held, strict=True)])
    return np.sort(rest), np.sort(np.concatenate([members[:n] for members, n in zip(drawn, held, strict=True)]))


def sample(count: int, size: int, *, seed: int) -> Index:
    """At most `size` of the indices 0 to count-1, drawn by chance, ascending."""
    return np.sort(_shuffled(np.arange(count, dtype=np.int64), seed, 0)[:size])


def _shuffled(members: Index, seed: int, label: int) -> Index:
    keys = np.random.PCG64(np.random.SeedSequence([seed, label])).random_raw(len(members))
    return members[np.argsort(keys, kind="stable")]


def _in_proportion(counts: list[int], size: int, least: int) -> list[int]:
    """`size` shared out in proportion to `counts`, the odd ones to the largest remainders; `least` each if possible."""
    total = sum(counts)
    shares = [size * count // total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda c: (-(size * counts[c] % total), c))
    for c in by_remainder[: size - sum(shares)]:
        shares[c] += 1
    for c, count in enumerate(counts):
        while shares[c] < min(least, count - 1) and max(shares) > least:
            shares[shares.index(max(shares))] -= 1
            shares[c] += 1
    return shares


def _kept(members: list[Index], limit: int | None, part: str) -> Index:
    available = sum(map(len, members))
    if limit is None:
        return np.sort(np.concatenate(members))
    if limit > available:
        raise DatasetError(f"cannot take {limit} {part} images: the {part} part has {available}")
    if limit < len(members):
        raise DatasetError(f"cannot take {limit} {part} images: there are {len(members)} classes, each needs one")
    # One of each class in turn: the first `limit` of this order are as even as the classes allow.
    turn = np.concatenate([np.arange(len(m)) for m in members])
    label = np.repeat(np.arange(len(members)), [len(m) for m in members])
    return np.sort(np.concatenate(members)[np.lexsort((label, turn))[:limit]])
