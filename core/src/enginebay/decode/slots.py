"""Which sequence of the cache holds what, and which one a prompt should continue. It knows no request and no sampling."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from attrs import define, field

from enginebay.decode.job import Job
from enginebay.decode.protocol import Copies, PrefersAdjacent, SavesState, StepModel

WORTH_SHARING_TOKENS = 16
"""A shared prefix below this is computed again rather than copied, parked or waited for."""


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two lists share from their beginning."""
    end = min(len(left), len(right))
    if left[:end] == right[:end]:
        return end
    low, high = 0, end - 1
    while low < high:
        middle = (low + high + 1) // 2
        if left[:middle] == right[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@define(eq=False)
class Slot:
    """One sequence of the engine: the tokens in its cache, and the job that uses it."""

    index: int
    tokens: list[int] = field(factory=list)
    job: Job | None = None
    used: int = 0


class Slots:
    """All sequences, and a bounded store of prefixes that had to give way (``cache_bytes``, least recently used first)."""

    def __init__(self, model: StepModel, cache_bytes: int) -> None:
        self._model = model
        self._adjacent = isinstance(model, PrefersAdjacent) and model.prefers_adjacent
        self._all = [Slot(index) for index in range(model.sequences)]
        self._clock = 0
        self._cache_bytes = cache_bytes
        self._parked: OrderedDict[tuple[int, ...], bytes] = OrderedDict()
        self._parked_bytes = 0

    @property
    def busy(self) -> list[Slot]:
        """Slots with a job, in the order of their numbers."""
        return [slot for slot in self._all if slot.job]

    @property
    def has_room(self) -> bool:
        return any(slot.job is None for slot in self._all)

    def take(self, job: Job) -> Slot:
        """Give the job a sequence that holds as much of its tokens as can be had, and nothing else.

        At least one token is left to compute, because its logits are needed.
        """
        wanted = job.tokens[:-1] if job.request.cache_prompt else []
        idle = [slot for slot in self._all if slot.job is None]
        shared = {slot.index: common_prefix(slot.tokens, wanted) for slot in self._all}
        best = max(self._all, key=lambda slot: (shared[slot.index], slot.job is None, slot.used))
        length = shared[best.index]
        slot = self._next_free(idle, shared)
        best_idle = max(idle, key=lambda slot: (shared[slot.index], slot.used))
        key = self._best_parked(wanted, length)
        if key is not None and isinstance(self._model, SavesState):
            self._park(slot)
            state = self._parked.pop(key)
            self._parked_bytes -= len(state)
            slot.tokens = list(key) if self._model.load_state(slot.index, state, len(key)) else []
        elif length and best.job is None and (length == len(best.tokens) or len(idle) == 1):
            slot = best
        elif length >= WORTH_SHARING_TOKENS and isinstance(self._model, Copies):
            if slot is best:
                slot = self._next_free([other for other in idle if other is not best], shared)
            self._park(slot)
            self._model.copy(best.index, slot.index, length)
            slot.tokens = best.tokens[:length]
        elif shared[best_idle.index] >= WORTH_SHARING_TOKENS:
            slot = best_idle
        self._fit(slot, wanted)
        slot.job = job
        job.cached_tokens = len(slot.tokens)
        return slot

    def _next_free(self, idle: list[Slot], shared: dict[int, int]) -> Slot:
        """Where a prompt goes that continues nothing long: near those that are decoded if that is cheaper, where nothing is
        lost, where the first tokens are there already, or where nothing was for longest."""
        busy = [slot.index for slot in self.busy] if self._adjacent else []

        def rank(slot: Slot) -> tuple[int, bool, int, int]:
            away = min((abs(slot.index - index) for index in busy), default=0)
            alike = shared[slot.index] if shared[slot.index] < WORTH_SHARING_TOKENS else 0
            return away, bool(slot.tokens), -alike, slot.used

        return min(idle, key=rank)

    def _fit(self, slot: Slot, wanted: list[int]) -> None:
        length = common_prefix(slot.tokens, wanted)
        if length < len(slot.tokens):
            if length < WORTH_SHARING_TOKENS:
                self._park(slot)
            self.cut(slot, length)

    def cut(self, slot: Slot, length: int) -> None:
        """Drop what follows the first ``length`` tokens of a slot, or all of it where the engine cannot cut there."""
        kept = self._model.keep(slot.index, length)
        del slot.tokens[kept:]

    def free(self, slot: Slot) -> None:
        """Take the job from a slot. What the cache holds stays for the next prompt, unless the job asked for no cache."""
        job, slot.job = slot.job, None
        self._clock += 1
        slot.used = self._clock
        if job is not None and not job.request.cache_prompt:
            self.cut(slot, 0)

    def holding(self, tokens: Sequence[int]) -> Slot | None:
        """The idle slot that shares most with ``tokens``."""
        idle = [slot for slot in self._all if slot.job is None]
        best = max(idle, key=lambda slot: common_prefix(slot.tokens, list(tokens)), default=None)
        return best if best and common_prefix(best.tokens, list(tokens)) else None

    def restore(self, tokens: Sequence[int], state: bytes) -> None:
        """Put a saved prefix into the store; the next prompt that begins with it takes it up."""
        self._store(tuple(tokens), state)

    def drop_idle(self) -> None:
        """Forget every prefix that no job uses: memory is short."""
        self._parked.clear()
        self._parked_bytes = 0
        for slot in self._all:
            if slot.job is None:
                self.cut(slot, 0)

    def _best_parked(self, wanted: list[int], beyond: int) -> tuple[int, ...] | None:
        best, length = None, beyond + WORTH_SHARING_TOKENS - 1
        for key in self._parked:
            shared = common_prefix(key, tuple(wanted))
            if shared > length:
                best, length = key, shared
        return best

    def _park(self, slot: Slot) -> None:
        """Write a prefix out before its slot is used for another, if the engine can and there is a budget for it."""
        if len(slot.tokens) >= WORTH_SHARING_TOKENS and self._cache_bytes and isinstance(self._model, SavesState):
            self._store(tuple(slot.tokens), self._model.save_state(slot.index))

    def _store(self, tokens: tuple[int, ...], state: bytes) -> None:
        if len(state) > self._cache_bytes:
            return
        self._parked_bytes += len(state) - len(self._parked.pop(tokens, b""))
        self._parked[tokens] = state
        while self._parked_bytes > self._cache_bytes:
            self._parked_bytes -= len(self._parked.popitem(last=False)[1])
