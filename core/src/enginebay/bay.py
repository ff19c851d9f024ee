"""Several models under one roof: loaded on first use, switched while they serve, unloaded when memory is short.

It knows no engine: what it keeps are ``Model`` objects, each inline or in a worker of its own.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Literal

from attrs import define, field

from enginebay import memory, opening
from enginebay.config import Config
from enginebay.data import GenerateRequest
from enginebay.engine import Stream
from enginebay.errors import Cancelled, EnginebayError, EngineError, ModelNotFound, OutOfMemory
from enginebay.model import Model
from enginebay.moving import MovingStream
from enginebay.status import BayStatus, ModelStatus, Switched

log = logging.getLogger(__name__)
TEND_SECONDS = 1.0
MEMORY_MARGIN_BYTES = 64 * 1024 * 1024


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


class Bay:
    """Models by name, one of them current. All methods may be called from any thread; close it in the end."""

    def __init__(
        self, config: Config | None = None, *, open_model: Callable[[opening.Plan], Model] = opening.load
    ) -> None:
        self._config = config or Config()
        self._open = open_model
        self._lock = threading.Condition()
        self._switching = threading.Lock()
        self._entries: dict[tuple[str, str], Entry] = {}
        self._current: Entry | None = None
        self._loading: str | None = None
        self._closed = threading.Event()
        self._tender = threading.Thread(target=self._tend, name="enginebay-bay", daemon=True)
        self._tender.start()

    @property
    def config(self) -> Config:
        """What the bay opens its models with."""
        return self._config

    # --- using ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def use(self, name: str | None = None, engine: str | None = None) -> Iterator[Model]:
        """The model called ``name`` (None: the current one), loaded if it is not. It stays loaded inside the ``with``."""
        entry, model = self._take(name, engine)
        try:
            yield model
        finally:
            self._release(entry)

    def submit(
        self, build: Callable[[Model], GenerateRequest], name: str | None = None, engine: str | None = None
    ) -> Stream:
        """Run a request on a model; ``build`` makes it once the model is known. The stream survives switches and workers."""
        entry, model = self._take(name, engine)
        try:
            moving = MovingStream(model, build(model), self._release_of(entry))
        except BaseException:
            self._release(entry)
            raise
        with self._lock:
            if not moving.over:
                entry.streams.add(moving)
        return Stream(moving, model.info.engine)

    def _release_of(self, entry: Entry) -> Callable[[MovingStream], None]:
        def release(stream: MovingStream) -> None:
            with self._lock:
                entry.streams.discard(stream)
            self._release(entry)

        return release

    # --- loading ----------------------------------------------------------------------------------------------

    def load(self, name: str, engine: str | None = None, *, pinned: bool = False) -> Model:
        """Load a model and keep it. The first becomes the current one."""
        entry, model = self._take(name, engine)
        entry.pinned = entry.pinned or pinned
        self._release(entry)
        return model

    def unload(self, name: str, engine: str | None = None, *, timeout_seconds: float = 60.0) -> None:
        """Unload a model once its requests are done. Its process ends, so its memory really comes back.

        :raises ModelNotFound: it is not loaded
        """
        with self._lock:
            entry = next(
                (e for e in self._entries.values() if e.plan.name == name and engine in (None, e.plan.engine)), None
            )
            if entry is None or entry.model is None:
                raise ModelNotFound(f"{name} is not loaded.", hint="bay.status() lists what is.")
            entry.retired = True
            self._lock.wait_for(lambda: entry.in_flight == 0, timeout_seconds)
        self._drop(entry)

    def switch(
        self,
        *,
        engine: str | None = None,
        model: str | None = None,
        migrate: bool = False,
        progress: Callable[[str], None] = lambda _text: None,
    ) -> Switched:
        """Make another engine, or another model, the current one. If that fails, nothing has changed.

        The new one loads and produces a token while the old one serves. Requests in flight end on the old one; with
        ``migrate`` they go on on the new one where the vocabulary is the same.
        """
        with self._switching:
            old = self._current
            name = model or (old.plan.name if old else None)
            if name is None:
                raise ModelNotFound(
                    "No model is loaded yet, so a switch must name one.", hint="bay.switch(model='demo')"
                )
            plan = opening.resolve(old.plan.reference if old and name == old.plan.name else name, engine, self._config)
            if old and old.key == (plan.name, plan.engine) and old.model:
                return Switched(old.plan.engine, plan.engine, plan.name)
            progress(f"loading {plan.name} on {plan.engine}")
            entry = self._entry(plan)
            entry.retired = False
            new = self._ensure(entry, making_room_by=old, progress=progress)
            with self._lock:
                self._current = entry
                entry.used = time.monotonic()
            moved = self._move(old, entry, new) if old and migrate else 0
            if old and not old.pinned:
                old.retired = True
                self._tend_once()
            return Switched(old.plan.engine if old else None, plan.engine, plan.name, moved_requests=moved)

    def status(self) -> BayStatus:
        """What is loaded, loading, failed, and running."""
        with self._lock:
            entries, current, loading = list(self._entries.values()), self._current, self._loading
        models = tuple(self._status(entry, entry is current) for entry in entries)
        return BayStatus(
            current.plan.engine if current else None, current.plan.name if current else None, loading, models
        )

    def close(self) -> None:
        """End everything."""
        self._closed.set()
        if threading.current_thread() is not self._tender:
            self._tender.join()
        for entry in list(self._entries.values()):
            self._drop(entry)

    def __enter__(self) -> Bay:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    # --- inside -------------------------------------------------------------------------------------------------

    def _take(self, name: str | None, engine: str | None) -> tuple[Entry, Model]:
        """The entry with one more in flight, and its model."""
        while True:
            with self._lock:
                if self._closed.is_set():
                    raise Cancelled("The bay is closed.")
                entry = self._find(name, engine)
                if entry and entry.model and not entry.retired:
                    entry.in_flight += 1
                    entry.used = time.monotonic()
                    return entry, entry.model
            if entry is None or entry.retired:
                if name is None:
                    raise ModelNotFound("No model is loaded.", hint="Name one, for example demo.")
                entry = self._entry(opening.resolve(name, engine, self._config))
                entry.retired = False
            self._ensure(entry)
            with self._lock:
                if self._current is None:
                    self._current = entry

    def _find(self, name: str | None, engine: str | None) -> Entry | None:
        if name is None and engine is None:
            return self._current
        if self._current and self._current.plan.name == name and engine in (None, self._current.plan.engine):
            return self._current
        matches = [
            entry for entry in self._entries.values() if entry.plan.name == name and engine in (None, entry.plan.engine)
        ]
        return next((entry for entry in matches if entry.model and not entry.retired), matches[0] if matches else None)

    def _release(self, entry: Entry) -> None:
        with self._lock:
            entry.in_flight -= 1
            entry.used = time.monotonic()
            self._lock.notify_all()

    def _entry(self, plan: opening.Plan) -> Entry:
        with self._lock:
            settings = self._config.models.get(plan.name)
            return self._entries.setdefault(
                (plan.name, plan.engine),
                Entry(
                    plan,
                    pinned=bool(settings and settings.pinned),
                    idle_seconds=settings.idle_seconds if settings else None,
                ),
            )

    def _ensure(
        self, entry: Entry, *, making_room_by: Entry | None = None, progress: Callable[[str], None] = lambda _text: None
    ) -> Model:
        """The entry's model, loaded by exactly one of all threads that want it."""
        with self._lock:
            while entry.state == "loading":
                self._lock.wait()
            if entry.model:
                return entry.model
            entry.state = "loading"
            self._loading = entry.plan.name
        displaced: Entry | None = None
        try:
            try:
                self._make_room(entry)
            except OutOfMemory:
                if making_room_by is None or making_room_by.model is None:
                    raise
                displaced = making_room_by
                progress(f"unloading {displaced.plan.name} on {displaced.plan.engine}: memory does not hold both")
                with self._lock:
                    self._lock.wait_for(lambda: making_room_by.in_flight == 0, 600)
                self._drop(displaced)
                self._make_room(entry)
            model = self._open(entry.plan)
            health = model.health()
            if not health.healthy:
                model.close()
                raise EngineError(
                    f"{entry.plan.engine} loaded {entry.plan.name} and produced no token: {health.reason}"
                )
        except BaseException as error:
            with self._lock:
                entry.state = "failed"
                entry.error = error if isinstance(error, EnginebayError) else None
                self._loading = None
                self._lock.notify_all()
            if displaced:
                progress(f"bringing {displaced.plan.name} on {displaced.plan.engine} back")
                self._ensure(displaced)
            raise
        with self._lock:
            entry.model, entry.state, entry.error, self._loading = model, "ready", None, None
            self._lock.notify_all()
        return model

    def _make_room(self, entry: Entry) -> None:
        """Unload idle models, least recently used first, until this one fits.

        :raises OutOfMemory: it does not fit, with the arithmetic
        """
        estimate = opening.estimate(entry.plan)
        if estimate is None:
            return
        while True:
            available = memory.available_bytes()
            if available is None or estimate.total_bytes + MEMORY_MARGIN_BYTES <= available:
                return
            with self._lock:
                idle = [e for e in self._entries.values() if e.model and not e.pinned and not e.in_flight]
                victim = min((e for e in idle if e is not self._current), key=lambda e: e.used, default=None)
                model = self._detach(victim) if victim else None
            if victim is None or model is None:
                raise OutOfMemory(
                    f"{entry.plan.name} on {entry.plan.engine} needs {estimate.total_bytes:,} bytes "
                    f"({estimate.arithmetic}); {available:,} are available.",
                    hint="Use a smaller context_tokens or model, or unload another.",
                    needed_bytes=estimate.total_bytes,
                    available_bytes=available,
                )
            log.info("unloading %s on %s to make room", *victim.key)
            model.close()

    def _drop(self, entry: Entry) -> None:
        with self._lock:
            model = self._detach(entry)
        if model:
            model.close()

    def _detach(self, entry: Entry) -> Model | None:
        """The model, which its entry has no more; to be closed without the lock, because that takes time."""
        model, entry.model, entry.state = entry.model, None, "stopped"
        return model

    def _move(self, old: Entry, new: Entry, model: Model) -> int:
        """Let the requests of ``old`` go on on ``new``, where the vocabulary allows it."""
        if old.model is None or old.model.info.vocabulary_fingerprint != model.info.vocabulary_fingerprint:
            return 0
        with self._lock:
            streams = list(old.streams)
        moved = 0
        for stream in streams:
            with self._lock:
                new.in_flight += 1
                new.streams.add(stream)
            release = self._release_of(new)
            if stream.move(model, release):
                moved += 1
            else:
                release(stream)
        return moved

    def _tend(self) -> None:
        while not self._closed.wait(TEND_SECONDS):
            try:
                self._tend_once()
            except Exception:
                log.exception("tending the bay failed")

    def _tend_once(self) -> None:
        """Unload what was switched away from or has been idle too long; when memory is short, forget idle prefixes first."""
        now = time.monotonic()
        with self._lock:
            free = [e for e in self._entries.values() if e.model and not e.in_flight and e is not self._current]
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

    def _status(self, entry: Entry, current: bool) -> ModelStatus:
        model = entry.model
        supervisor = model.supervisor if model else None
        pid = supervisor.pid if supervisor else None
        state: str = entry.state
        if model:
            state = supervisor.state if supervisor else ("busy" if entry.in_flight else "ready")
        return ModelStatus(
            name=entry.plan.name,
            engine=entry.plan.engine,
            format=entry.plan.request.format,
            state=state,
            current=current,
            pinned=entry.pinned,
            context_tokens=model.info.context_tokens if model else None,
            in_flight=entry.in_flight,
            pid=pid,
            memory_bytes=memory.resident_bytes(pid) if pid else None,
            restarts=supervisor.restarts if supervisor else 0,
            error=entry.error.message if entry.error else None,
        )
