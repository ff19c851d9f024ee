"""What runs inside a worker: one engine, one model, frames in and out. It knows nothing of its host but two descriptors.

``python -m enginebay.worker.child READ_FD WRITE_FD PARENT_PID [MEMORY_BYTES]``. Descriptors 0, 1 and 2 belong to
whatever the native library prints; the host points them elsewhere before this starts.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from attrs import evolve

from enginebay import chat
from enginebay.data import Chunk, Constraint, GenerateRequest, LoadRequest
from enginebay.engine import Engine, Stream
from enginebay.errors import ContractError, EnginebayError, EngineError, RequestError
from enginebay.hookspecs import LoadedModel
from enginebay.structure import structure, unstructure
from enginebay.worker.frames import BrokenFrame, FrameReader, FrameWriter

BEAT_SECONDS = 0.5
GATHER_SECONDS = 0.004
FRAME_CHUNKS = 1_024
"""The most chunks in a frame: a host that was slow to read finds more frames, not one that is too large."""
PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask Linux for SIGKILL when the host ends; elsewhere, and before that, the end of the pipe does it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def limit(memory_bytes: int | None) -> None:
    """Leave no core file behind; fail allocations beyond ``memory_bytes`` of private memory, where the system can."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


class Child:
    """Serves one host until it says stop or goes away."""

    def __init__(self, reader: FrameReader, writer: FrameWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._engine: Engine | None = None
        self._model: LoadedModel | None = None
        self._streams: dict[int, Stream] = {}
        self._waited_for: set[int] = set()
        """Streams that a thread reads now. A stream has one reader at a time."""
        self._due: queue.SimpleQueue[int] = queue.SimpleQueue()

    def serve(self) -> None:
        """Read messages until ``stop`` or the end of the pipe."""
        self._writer.send({"k": "hello", "pid": os.getpid()})
        threading.Thread(target=self._beat, name="beat", daemon=True).start()
        threading.Thread(target=self._keep_sending, name="chunks", daemon=True).start()
        for message in self._reader:
            kind = message["k"]
            if kind == "stop":
                break
            if kind in ("cancel", "close"):
                stream = self._streams.get(message["id"])
                if stream:
                    (stream.cancel if kind == "cancel" else stream.close)()
            elif kind == "generate":
                self._generate(message["id"], message["request"])
            else:
                threading.Thread(target=self._answer, args=(message,), daemon=True).start()
        if self._model:
            self._model.close()

    def _beat(self) -> None:
        while True:
            self._writer.send({"k": "beat", "progress": getattr(self._model, "progress", 0)})
            time.sleep(BEAT_SECONDS)

    def _answer(self, message: dict[str, Any]) -> None:
        number = message["id"]
        try:
            value = self._load(message) if message["k"] == "load" else self._call(message["hook"], message["arguments"])
            self._writer.send({"k": "reply", "id": number, "value": value})
        except EnginebayError as error:
            self._writer.send({"k": "error", "id": number, "error": error.to_dict()})
        except Exception as error:
            wrapped = ContractError(f"A worker could not answer: {type(error).__name__}: {error}")
            self._writer.send({"k": "error", "id": number, "error": wrapped.to_dict()})

    def _load(self, message: dict[str, Any]) -> Any:
        from enginebay import registry

        sys.path[:] = message["sys_path"]
        plugin = registry.load(message["engine"])
        request = structure(message["request"], LoadRequest, error=RequestError)
        options: Any = structure(message["options"], plugin.info.options, error=RequestError)
        self._engine = Engine(plugin.module, plugin.info)
        self._model = self._engine.load(evolve(request, options=options))
        return unstructure(self._model.info)

    def _loaded(self) -> tuple[Engine, LoadedModel]:
        if self._engine is None or self._model is None:
            raise EngineError("No model is loaded in this worker.")
        return self._engine, self._model

    def _call(self, hook: str, given: dict[str, Any]) -> Any:
        engine, model = self._loaded()
        match hook:
            case "tokenize":
                return engine.tokenize(model, given["text"], given["special"])
            case "detokenize":
                return engine.detokenize(model, given["tokens"]).hex()
            case "grammar":
                compiled = engine.grammar(model, structure(given["constraint"], Constraint, error=RequestError))  # type: ignore[arg-type]
                return unstructure(compiled.applied)
            case "health":
                return unstructure(engine.health(model))
            case "embed":
                return engine.embed(model, given["texts"], given["normalize"]).tolist()
            case "rerank":
                return engine.rerank(model, given["query"], given["documents"])
            case "save_session":
                return Path(given["file"]).write_bytes(engine.save_session(model, given["tokens"]))
            case "load_session":
                return engine.load_session(model, given["tokens"], Path(given["file"]).read_bytes())
            case "render":
                info = model.info
                return chat.render(
                    info.chat_template, given["messages"], special_text=info.special_text, **given["variables"]
                )
            case "drop_caches":
                drop = getattr(model, "drop_caches", None)
                return drop() if drop else None
        raise ContractError(f"A worker was asked for {hook}, which it does not know.")

    def _generate(self, number: int, data: dict[str, Any]) -> None:
        """Submit on this thread, so that requests keep their order; chunks are sent from another."""
        try:
            engine, model = self._loaded()
            stream = engine.generate(model, structure(data, GenerateRequest, error=RequestError))
        except EnginebayError as error:
            self._writer.send({"k": "error", "id": number, "error": error.to_dict()})
            return
        self._streams[number] = stream
        stream.tell(lambda: self._due.put(number))

    def _keep_sending(self) -> None:
        """Without this thread all streams would stand still, so the worker ends with it and the host starts another."""
        try:
            self._send_chunks()
        except BaseException as error:
            sys.stderr.write(f"worker: chunks cannot be sent: {type(error).__name__}: {error}\n")
            sys.stderr.flush()
            os._exit(1)

    def _send_chunks(self) -> None:
        """All that the streams have, in few writes: at once after a pause, otherwise what a few milliseconds bring."""
        sent = 0.0
        while True:
            due = {self._due.get()}
            early = GATHER_SECONDS - (time.monotonic() - sent)
            if early > 0:
                time.sleep(early)
            with contextlib.suppress(queue.Empty):
                while True:
                    due.add(self._due.get_nowait())
            chunks: list[list[Any]] = []
            errors: list[dict[str, Any]] = []
            for number in sorted(due):
                self._take(number, chunks, errors)
            if chunks or errors:
                self._writer.send({"k": "chunks", "chunks": chunks}, *errors)
                sent = time.monotonic()

    def _take(self, number: int, chunks: list[list[Any]], errors: list[dict[str, Any]]) -> None:
        """Add what a stream has to say now. What takes longer, the check of a whole output, is done on a thread."""
        stream = self._streams.get(number)
        if stream is None or number in self._waited_for:
            return
        try:
            while stream.due():  # asked first: what is due and not ready stays so until it is taken
                if len(chunks) >= FRAME_CHUNKS:
                    self._due.put(number)
                    break
                if not stream.ready():
                    self._waited_for.add(number)
                    threading.Thread(target=self._wait, args=(number, stream), name="chunk", daemon=True).start()
                    break
                chunks.append(_packed(number, next(stream)))
        except StopIteration:
            self._streams.pop(number, None)
        except EnginebayError as error:
            self._streams.pop(number, None)
            errors.append({"k": "error", "id": number, "error": error.to_dict()})

    def _wait(self, number: int, stream: Stream) -> None:
        """Send one chunk that takes a while to be had; it is a last one."""
        try:
            message: dict[str, Any] = {"k": "chunks", "chunks": [_packed(number, next(stream))]}
            self._writer.send(message)
        except EnginebayError as error:
            self._writer.send({"k": "error", "id": number, "error": error.to_dict()})
        except StopIteration:  # it was closed meanwhile
            pass
        finally:
            self._waited_for.discard(number)
            self._due.put(number)


def _packed(number: int, chunk: Chunk) -> list[Any]:
    packed: list[Any] = [number, chunk.text, chunk.tokens]
    if chunk.logprobs or chunk.finish:
        packed += [unstructure(chunk.logprobs), unstructure(chunk.finish)]
    return packed


def main() -> None:
    """Serve on the descriptors that the command line names."""
    read, write, parent, *memory = (int(argument) for argument in sys.argv[1:])
    die_with_parent(parent)
    limit(memory[0] if memory else None)
    os.environ["GGML_NO_BACKTRACE"] = "1"
    child = Child(FrameReader(read), FrameWriter(write))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    status = 0
    try:
        child.serve()
    except (BrokenFrame, OSError, KeyError) as error:
        sys.stderr.write(f"worker: {type(error).__name__}: {error}\n")
        sys.stderr.flush()
        status = 1
    os._exit(status)  # native libraries run finalizers that hang or abort; the memory goes back either way


if __name__ == "__main__":
    main()
