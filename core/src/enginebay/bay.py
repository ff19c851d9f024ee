"""Several models under one roof: loaded on first use, one of them current, switched while they serve. It knows no engine."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from enginebay import opening
from enginebay.config import Config
from enginebay.data import GenerateRequest
from enginebay.engine import Stream
from enginebay.errors import Cancelled, ModelNotFound
from enginebay.model import Model
from enginebay.moving import MovingStream
from enginebay.roster import Entry, Roster
from enginebay.status import BayStatus, Switched

log = logging.getLogger(__name__)
TEND_SECONDS = 1.0


class Bay:
    """Models by name, one of them current. All methods may be called from any thread; close it in the end."""

    def __init__(
        self, config: Config | None = None, *, open_model: Callable[[opening.Plan], Model] = opening.load
    ) -> None:
        self._config = config or Config()
        self._roster = Roster(self._config, open_model)
        self._lock = self._roster.lock
        self._switching = threading.Lock()
        self._current: Entry | None = None
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
            entry = self._roster.find(name, engine)
            if entry is None or entry.model is None:
                raise ModelNotFound(f"{name} is not loaded.", hint="bay.status() lists what is.")
            entry.retired = True
        self._roster.drain(entry, timeout_seconds)
        self._roster.drop(entry)

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
            entry = self._roster.entry(plan)
            new = self._roster.ensure(entry, old, displaces=True, progress=progress)
            with self._lock:
                self._current = entry
                entry.used = time.monotonic()
            moved = self._move(old, entry, new) if old and migrate else 0
            if old and not old.pinned:
                old.retired = True
                self._roster.tend(self._current)
            return Switched(old.plan.engine if old else None, plan.engine, plan.name, moved_requests=moved)

    def status(self) -> BayStatus:
        """What is loaded, loading, failed, and running."""
        current = self._current
        models = tuple(entry.status(entry is current) for entry in self._roster.entries)
        engine, name = (current.plan.engine, current.plan.name) if current else (None, None)
        return BayStatus(engine, name, self._roster.loading, models)

    def close(self) -> None:
        """End everything."""
        self._closed.set()
        if threading.current_thread() is not self._tender:
            self._tender.join()
        for entry in self._roster.entries:
            self._roster.drop(entry)

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
                entry = self._roster.entry(opening.resolve(name, engine, self._config))
            self._roster.ensure(entry, self._current)
            with self._lock:
                if self._current is None:
                    self._current = entry

    def _find(self, name: str | None, engine: str | None) -> Entry | None:
        if name is None and engine is None:
            return self._current
        if self._current and self._current.matches(name, engine):
            return self._current
        return self._roster.find(name, engine)

    def _release(self, entry: Entry) -> None:
        with self._lock:
            entry.in_flight -= 1
            entry.used = time.monotonic()
            self._lock.notify_all()

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
                self._roster.tend(self._current)
            except Exception:
                log.exception("tending the bay failed")
