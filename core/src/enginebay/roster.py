"""The models that a bay knows: each loaded once, unloaded when it is idle or memory is short. It knows no switch and no stream.

What it keeps are ``Model`` objects, each inline or in a worker of its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Literal

from attrs import define, field

from enginebay import memory, opening
from enginebay.config import Config
from enginebay.data import MemoryEstimate
from enginebay.errors import EnginebayError, EngineError, OutOfMemory
from enginebay.model import Model
from enginebay.moving import MovingStream
from enginebay.status import ModelStatus

log = logging.getLogger(__name__)
MEMORY_MARGIN_BYTES = 64 * 1024 * 1024
DRAIN_SECONDS = 600.0


@define(eq=False)
class Entry:
    """A model of the bay: what to open, and the open model while there is one."""

    plan: opening.Plan
    pinned: bool = False
    idle_seconds: float | None = None
    model: Model | None = None
    state: Literal["stopped", "loading", "ready", "failed"] = "stopped"
    in_flight: int = 0
    used: float = field(factory=time.monotonic)
    error: EnginebayError | None = None
    streams: set[MovingStream] = field(factory=set)
    retired: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return self.plan.name, self.plan.engine

    def matches(self, name: str | None, engine: str | None) -> bool:
        return self.plan.name == name and engine in (None, self.plan.engine)

    def status(self, current: bool) -> ModelStatus:
        model = self.model
        supervisor = model.supervisor if model else None
        pid = supervisor.pid if supervisor else None
        state: str = self.state
        if model:
            state = supervisor.state if supervisor else ("busy" if self.in_flight else "ready")
        return ModelStatus(
            name=self.plan.name,
            engine=self.plan.engine,
            format=self.plan.request.format,
            state=state,
            current=current,
            pinned=self.pinned,
            context_tokens=model.info.context_tokens if model else None,
            in_flight=self.in_flight,
            pid=pid,
            memory_bytes=memory.resident_bytes(pid) if pid else None,
            restarts=supervisor.restarts if supervisor else 0,
            error=self.error.message if self.error else None,
        )


class Roster:
    """Entries by name and engine. ``lock`` guards them, and whoever waits for a change waits on it."""

    def __init__(self, config: Config, open_model: Callable[[opening.Plan], Model]) -> None:
        self._config = config
        self._open = open_model
        self.lock = threading.Condition()
        self._entries: dict[tuple[str, str], Entry] = {}
        self.loading: str | None = None

    @property
    def entries(self) -> list[Entry]:
        with self.lock:
            return list(self._entries.values())

    def find(self, name: str | None, engine: str | None) -> Entry | None:
        """The entry for a name, one that is loaded before others."""
        matches = [entry for entry in self._entries.values() if entry.matches(name, engine)]
        return next((entry for entry in matches if entry.model and not entry.retired), matches[0] if matches else None)

    def entry(self, plan: opening.Plan) -> Entry:
        """The entry for a plan, made if there is none, and wanted from now on."""
        with self.lock:
            settings = self._config.models.get(plan.name)
            pinned, idle = (bool(settings.pinned), settings.idle_seconds) if settings else (False, None)
            key = plan.name, plan.engine
            entry = self._entries.setdefault(key, Entry(plan, pinned=pinned, idle_seconds=idle))
            entry.retired = False
            return entry

    def ensure(
        self,
        entry: Entry,
        current: Entry | None,
        *,
        displaces: bool = False,
        progress: Callable[[str], None] = lambda _text: None,
    ) -> Model:
        """The entry's model, loaded by exactly one of all threads that want it.

        :param current: the entry that is not unloaded to make room; with ``displaces`` it is, if nothing else helps, and
            brought back if the new one fails
        :raises EnginebayError: it cannot be loaded, does not fit, or produced no token
        """
        with self.lock:
            while entry.state == "loading":
                self.lock.wait()
            if entry.model:
                return entry.model
            entry.state = "loading"
            self.loading = entry.plan.name
        displaced: Entry | None = None
        try:
            try:
                self._make_room(entry, current)
            except OutOfMemory:
                if not displaces or current is None or current.model is None:
                    raise
                displaced = current
                progress(f"unloading {displaced.plan.name} on {displaced.plan.engine}: memory does not hold both")
                self.drain(displaced, DRAIN_SECONDS)
                self.drop(displaced)
                self._make_room(entry, current)
            model = self._proven(entry)
        except BaseException as error:
            with self.lock:
                entry.state = "failed"
                entry.error = error if isinstance(error, EnginebayError) else None
                self.loading = None
                self.lock.notify_all()
            if displaced:
                progress(f"bringing {displaced.plan.name} on {displaced.plan.engine} back")
                self.ensure(displaced, current)
            raise
        with self.lock:
            entry.model, entry.state, entry.error, self.loading = model, "ready", None, None
            self.lock.notify_all()
        return model

    def _proven(self, entry: Entry) -> Model:
        """Open the model, and see it produce a token."""
        model = self._open(entry.plan)
        health = model.health()
        if health.healthy:
            return model
        model.close()
        raise EngineError(f"{entry.plan.engine} loaded {entry.plan.name} and produced no token: {health.reason}")

    def _make_room(self, entry: Entry, current: Entry | None) -> None:
        """Unload idle models, least recently used first, until this one fits.

        :raises OutOfMemory: it does not fit, with the arithmetic
        """
        estimate = opening.estimate(entry.plan)
        while estimate is not None:
            try:
                self._require(entry, estimate)
                return
            except OutOfMemory:
                with self.lock:
                    idle = [e for e in self._entries.values() if e.model and not e.pinned and not e.in_flight]
                    victim = min((e for e in idle if e is not current), key=lambda e: e.used, default=None)
                    model = self._detach(victim) if victim else None
                if victim is None or model is None:
                    raise
            log.info("unloading %s on %s to make room", *victim.key)
            model.close()

    @staticmethod
    def _require(entry: Entry, estimate: MemoryEstimate) -> None:
        hint = "Use a smaller context_tokens or model, or unload another."
        what = f"{entry.plan.name} on {entry.plan.engine}"
        memory.require(what, estimate, hint, margin_bytes=MEMORY_MARGIN_BYTES)

    def drain(self, entry: Entry, timeout_seconds: float) -> None:
        """Wait until an entry has no requests in flight, or for so long."""
        with self.lock:
            self.lock.wait_for(lambda: entry.in_flight == 0, timeout_seconds)

    def drop(self, entry: Entry) -> None:
        """Close an entry's model if it has one."""
        with self.lock:
            model = self._detach(entry)
        if model:
            model.close()

    @staticmethod
    def _detach(entry: Entry) -> Model | None:
        """The model, which its entry has no more; to be closed without the lock, because that takes time."""
        model, entry.model, entry.state = entry.model, None, "stopped"
        return model

    def tend(self, current: Entry | None) -> None:
        """Unload what is not wanted any more or idle too long; when memory is short, forget idle prefixes first."""
        now = time.monotonic()
        with self.lock:
            free = [e for e in self._entries.values() if e.model and not e.in_flight and e is not current]
            stale = [
                e for e in free if e.retired or (not e.pinned and e.idle_seconds and now - e.used > e.idle_seconds)
            ]
            ending = [model for entry in stale if (model := self._detach(entry))]
            loaded = [entry.model for entry in self._entries.values() if entry.model]
        for model in ending:
            model.close()
        if memory.is_short():
            for model in loaded:
                model.drop_caches()
