"""Where each sequence's keys and values live: on its own, or as a row of the running batch. It knows no model or token.

The caches are mlx-lm's. A row is copied out when its sequence leaves the batch and copied in when it joins; between
those the batch stays as it is. A change that fails leaves every sequence that is not in the new batch as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


class Caches:
    """The caches of all sequences, each a list with an object a layer. ``new`` makes those of an empty sequence."""

    def __init__(self, mx: Any, new: Callable[[], list[Any]]) -> None:
        self._mx = mx
        self._new = new
        self._alone: dict[int, list[Any]] = {}
        self._rows: list[int | None] = []
        self._batch: list[Any] = []
        self.batches = all(hasattr(type(cache), "merge") for cache in new())

    def own(self, sequence: int) -> list[Any]:
        """The cache of a sequence by itself, taken out of the batch if it was there; an empty one if it had none."""
        if sequence in self._rows:
            self._leave(sequence)
        elif sequence not in self._alone:
            self._alone[sequence] = self._new()
        return self._alone[sequence]

    def together(self, sequences: Sequence[int]) -> tuple[list[int], list[Any]]:
        """Make the batch hold exactly these sequences. Returns them in the order of its rows, and its caches."""
        for sequence in [row for row in self._rows if row is not None and row not in sequences]:
            self._leave(sequence)
        staying = [place for place, row in enumerate(self._rows) if row is not None]
        joining = [sequence for sequence in sequences if sequence not in self._rows]
        if len(staying) < len(self._rows):
            for cache in self._batch if staying else ():
                cache.filter(staying)
            self._rows = [self._rows[place] for place in staying]
        if joining:
            own = [self.own(sequence) for sequence in joining]
            merged = [type(layer[0]).merge(list(layer)) for layer in zip(*own, strict=True)]
            if self._rows:
                for cache, more in zip(self._batch, merged, strict=True):
                    cache.extend(more)
            else:
                self._batch = merged
            self._rows += joining
            for sequence in joining:
                del self._alone[sequence]
        return [row for row in self._rows if row is not None], self._batch

    def drop(self, sequence: int) -> None:
        """Forget what a sequence held."""
        self._alone.pop(sequence, None)
        self._rows = [None if row == sequence else row for row in self._rows]
        if not any(row is not None for row in self._rows):
            self._rows, self._batch = [], []

    def trim(self, sequence: int, drop: int) -> bool:
        """Cut the last ``drop`` positions. False, and nothing changed, where a kind of cache cannot do that."""
        caches = self.own(sequence)
        if not all(cache.is_trimmable() for cache in caches):
            return False
        for cache in caches:
            cache.trim(drop)
        return True

    def look(self, sequence: int) -> list[Any]:
        """The cache of a sequence, wherever it is, for reading."""
        return self._copy_out(sequence) if sequence in self._rows else self.own(sequence)

    def put(self, sequence: int, caches: list[Any]) -> None:
        """Give a sequence this cache in place of its own."""
        self.drop(sequence)
        self._alone[sequence] = caches

    def clear(self) -> None:
        """Forget everything."""
        self._alone.clear()
        self._rows, self._batch = [], []

    def _leave(self, sequence: int) -> None:
        caches = self._copy_out(sequence)
        self.drop(sequence)
        self._alone[sequence] = caches

    def _copy_out(self, sequence: int) -> list[Any]:
        row = self._rows.index(sequence)
        caches = [cache.extract(row) for cache in self._batch]
        self._mx.eval([cache.state for cache in caches])
        return caches
