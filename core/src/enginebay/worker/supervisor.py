"""Which worker serves a model now: states, deadlines, back-off and the breaker. It knows no request.

A worker that is silent for ``liveness_seconds``, or has requests and makes no progress for ``progress_seconds``, is killed.
A dead worker has a successor after a pause that doubles; ``deaths`` within ``window_seconds`` open the breaker, and until it
closes the model is ``failed``.
"""

from __future__ import annotations

import logging
import random
import sys
import threading
import time
from collections import deque
from typing import Any, Literal

from attrs import evolve, field, frozen

from enginebay.data import LoadRequest, ModelInfo, NoOptions, bounded
from enginebay.errors import Cancelled, EnginebayError, EngineCrashed, EngineError, OutOfMemory, RequestError
from enginebay.structure import structure, unstructure
from enginebay.worker.client import Death, Worker, WorkerDied

State = Literal["loading", "ready", "busy", "unhealthy", "restarting", "failed", "stopped"]
log = logging.getLogger(__name__)
DEATHS_OF_A_LOAD = 2
"""A file that ends this many workers before it was ever loaded is not tried again."""


@frozen
class Supervision:
    """The deadlines and limits of a supervisor. ``memory_bytes`` is the most that a worker may take (None: no limit)."""

    liveness_seconds: float = field(default=5.0, validator=bounded(0.5, 3600))
    progress_seconds: float = field(default=60.0, validator=bounded(0.5, 86400))
    load_seconds: float = field(default=600.0, validator=bounded(1, 86400))
    first_pause_seconds: float = field(default=0.5, validator=bounded(0, 3600))
    last_pause_seconds: float = field(default=30.0, validator=bounded(0, 3600))
    deaths: int = field(default=5, validator=bounded(1, 1_000_000))
    window_seconds: float = field(default=60.0, validator=bounded(0.1, 86400))
    memory_bytes: int | None = None


class Supervisor:
    """Keeps one worker with one model alive. ``worker()`` waits for the one that serves."""

    def __init__(self, engine: str, request: LoadRequest, supervision: Supervision) -> None:
        self._engine = engine
        self._request = request
        self._supervision = supervision
        self._changed = threading.Condition()
        self._worker: Worker | None = None
        self._state: State = "loading"
        self._error: EnginebayError | None = None
        self._deaths: deque[float] = deque(maxlen=supervision.deaths)
        self._row = 0
        self.last_death: Death | None = None
        self.next_try: float | None = None
        self.restarts = 0
        self.info: ModelInfo | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"enginebay-{engine}-supervisor", daemon=True)
        self._thread.start()

    @property
    def state(self) -> State:
        worker = self._worker
        if self._state == "ready" and worker:
            if worker.silent_seconds() > self._supervision.liveness_seconds / 2:
                return "unhealthy"
            return "busy" if worker.running else "ready"
        return self._state

    @property
    def pid(self) -> int | None:
        worker = self._worker
        return worker.process.pid if worker and not worker.died else None

    def log_lines(self) -> list[str]:
        """The last lines of the log of the worker that serves, or of the last that died."""
        worker = self._worker
        if worker and not worker.died:
            return worker.process.log_lines()
        return list(self.last_death.log_lines) if self.last_death else []

    def worker(self, besides: Worker | None = None, timeout_seconds: float | None = None) -> Worker:
        """The worker that serves; waits while one is loading. ``besides`` is one that is known to be dead.

        :raises EngineCrashed: the breaker is open, or the wait was too long
        :raises EnginebayError: what the engine said of the model when it was first loaded
        """
        until = time.monotonic() + (timeout_seconds or self._supervision.load_seconds)
        with self._changed:
            while True:
                worker = self._worker
                if self._state == "ready" and worker and worker is not besides and not worker.died:
                    return worker
                if self._state == "stopped":
                    raise Cancelled("The model was closed.", hint="Open it again.")
                if self._state == "failed":
                    raise self._failed()
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    raise self._crashed(f"{self._engine} did not come back in time")

    def stop(self, grace_seconds: float = 5.0) -> None:
        """End the worker and keep it ended."""
        with self._changed:
            self._stopping = True
            worker = self._worker
            self._changed.notify_all()
        if worker:
            worker.stop(grace_seconds)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    # --- the supervisor's thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            self._set("loading" if self._row == 0 and self.restarts == 0 else "restarting")
            try:
                self._start()
                self._watch()
            except WorkerDied as died:
                self._bury(died.death)
            except EnginebayError as error:
                self._give_up(error)
            except Exception as error:
                self._give_up(EngineCrashed(f"{self._engine} could not be started: {type(error).__name__}: {error}"))
        worker = self._worker
        if worker and not worker.died:
            worker.stop(0)
        self._set("stopped")

    def _start(self) -> None:
        worker = Worker(f"enginebay-{self._engine}", self._supervision.memory_bytes)
        with self._changed:
            self._worker = worker
            if self._stopping:
                return
        reply = self._answer(
            worker,
            {
                "k": "load",
                "engine": self._engine,
                "request": unstructure(evolve(self._request, options=NoOptions())),
                "options": unstructure(self._request.options),
                "sys_path": sys.path,
            },
        )
        self.info = structure(reply, ModelInfo, error=RequestError)
        self._set("ready")

    def _answer(self, worker: Worker, message: dict[str, Any]) -> Any:
        """Ask while watching that the worker lives."""
        reply = worker.ask(message)
        until = time.monotonic() + self._supervision.load_seconds
        try:
            while True:
                try:
                    return reply.result(0.25)
                except TimeoutError:
                    if self._stopping:
                        worker.stop(0)
                    elif worker.silent_seconds() > 4 * self._supervision.liveness_seconds or time.monotonic() > until:
                        worker.kill("it did not finish loading")
        except EnginebayError:
            worker.stop(0)
            raise

    def _watch(self) -> None:
        worker = self._worker
        limits = self._supervision
        pause = min(0.25, limits.liveness_seconds / 4)
        while worker and not self._stopping:
            if worker.died:
                raise WorkerDied(worker.died)
            if worker.silent_seconds() > limits.liveness_seconds:
                worker.kill(f"it gave no sign of life for {limits.liveness_seconds:g} s")
            elif worker.stuck_seconds() > limits.progress_seconds:
                worker.kill(f"it made no progress for {limits.progress_seconds:g} s")
            else:
                worker.wait_for_end(pause)

    def _bury(self, death: Death) -> None:
        if self._stopping:
            return
        now = time.monotonic()
        self._row = self._row + 1 if self._deaths and now - self._deaths[-1] < self._supervision.window_seconds else 1
        self._deaths.append(now)
        self.last_death = death
        self.restarts += 1
        limits = self._supervision
        if self.info is None and self._row >= DEATHS_OF_A_LOAD:
            self._give_up(self._crashed(f"{self._engine} died {self._row} times while it loaded {self._request.path}"))
            return
        log.warning("%s died: %s (%s); deaths in a row: %d", self._engine, death.reason, death.exit, self._row)
        pause = min(limits.last_pause_seconds, limits.first_pause_seconds * 2 ** min(self._row - 1, 30))
        if len(self._deaths) == limits.deaths and now - self._deaths[0] <= limits.window_seconds:
            pause = max(limits.last_pause_seconds, pause)
            self._pause(pause * random.uniform(0.8, 1.2), "failed")  # noqa: S311 - jitter, not a secret
        else:
            self._pause(pause * random.uniform(0.8, 1.2), "restarting")  # noqa: S311

    def _give_up(self, error: EnginebayError) -> None:
        """The engine refused to load. Before the first success that is the answer; later it is tried again in a while."""
        self._error = error
        if self.info is None and not isinstance(error, OutOfMemory):
            self._set("failed")
            with self._changed:
                while not self._stopping:
                    self._changed.wait()
        else:
            self._pause(self._supervision.last_pause_seconds, "failed")

    def _pause(self, seconds: float, state: State) -> None:
        until = time.monotonic() + seconds
        self.next_try = time.time() + seconds
        self._set(state)
        with self._changed:
            while not self._stopping and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
        self.next_try = None

    def _set(self, state: State) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()

    def _failed(self) -> EnginebayError:
        if self._error:
            return self._error
        return self._crashed(f"{self._engine} died {len(self._deaths)} times in a short while and is not started now")

    def _crashed(self, what: str) -> EngineError:
        return crashed(what, self.last_death, None if self.next_try is None else max(0.0, self.next_try - time.time()))


def crashed(what: str, death: Death | None, next_try_seconds: float | None = None) -> EngineError:
    """The error for a death, with everything that is known of it: ``OutOfMemory`` if its log says so."""
    fields = death.fields() if death else {}
    ended = f": {death.reason} ({death.exit})" if death else ""
    hint = "The last lines of the engine's log are in the error's fields."
    if next_try_seconds is not None:
        hint = f"It is tried again in {next_try_seconds:.0f} s. {hint}"
        fields["retry_after_seconds"] = round(next_try_seconds, 1)
    if death and death.lacked_memory:
        hint = f"Use a smaller context_tokens or model, or raise memory_bytes. {hint}"
        return OutOfMemory(f"{what}{ended}: memory ran out.", hint=hint, **fields)
    return EngineCrashed(f"{what}{ended}.", hint=hint, **fields)
