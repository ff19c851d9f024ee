"""A conversation that keeps its place: sent to, saved, and continued on any engine with the same vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from enginebay import session_file
from enginebay.errors import EnginebayError, SessionError

if TYPE_CHECKING:
    from enginebay.model import Model, Options
    from enginebay.result import Result


class Session:
    """A conversation with one model. What was computed for earlier turns is not computed again while the cache holds it.

    ``tokens`` is exactly what the model saw and said. ``messages`` is the same for people; it stays empty for a model
    without a chat template, where what is sent is plain text that the model continues.
    """

    def __init__(self, model: Model, *, tools: Sequence[Mapping[str, Any]] = (), owns_model: bool = False) -> None:
        self.model = model
        self.tokens: tuple[int, ...] = ()
        self.messages: list[dict[str, Any]] = []
        self._tools = tuple(tools)
        self._owns_model = owns_model

    def send(self, text: str, *, role: str = "user", **options: Unpack[Options]) -> Result:
        """Say something and wait for the answer. If it fails, the conversation is as it was."""
        prompt, messages = self._prompt(text, role)
        result = self.model.generate(prompt, **options)
        self.tokens = (*prompt, *result.tokens)
        if messages:
            self.messages = [*messages, {"role": "assistant", "content": result.text}]
        return result

    def _prompt(self, text: str, role: str) -> tuple[tuple[int, ...], list[dict[str, Any]]]:
        model = self.model
        if model.info.chat_template is None:
            if not self.tokens:
                return model.prompt_tokens(text), []
            return (*self.tokens, *model.tokenize(text)), []
        messages = [*self.messages, {"role": role, "content": text}]
        rendered = model.render(messages, tools=self._tools or None)
        said = model.detokenize(self.tokens).decode("utf-8", "replace")
        if self.tokens and rendered.startswith(said):
            return (*self.tokens, *model.tokenize(rendered[len(said) :])), messages
        return tuple(model.tokenize(rendered)), messages

    def save(self, path: str | Path) -> None:
        """Write the session to a file that only this user can read."""
        info, native = self.model.info, b""
        if "save_session" in info.capabilities and self.tokens:
            native = self.model.save_state(self.tokens)
        header = session_file.SessionHeader(
            reference=self.model.name,
            engine=info.engine,
            engine_version=self.model.engine_version,
            model_sha256=_sha256(info.path, _stamp(info.path)),
            vocabulary_fingerprint=info.vocabulary_fingerprint,
            context_tokens=info.context_tokens,
            tokens=self.tokens,
            messages=tuple(self.messages),
            tools=self._tools,
        )
        session_file.write(Path(path), header, native)

    @classmethod
    def restore(cls, model: Model, path: str | Path, *, owns_model: bool = False) -> Session:
        """Continue a saved session with ``model``.

        The engine's own state is used on the same engine, version and model files; otherwise the tokens are computed again.

        :raises SessionError: the file is damaged, or the model has another vocabulary
        """
        header, native = session_file.read(Path(path))
        return cls.from_header(model, header, native, owns_model=owns_model)

    @classmethod
    def from_header(
        cls, model: Model, header: session_file.SessionHeader, native: bytes, *, owns_model: bool = False
    ) -> Session:
        """The session that ``header`` describes; see ``restore``."""
        info = model.info
        if header.vocabulary_fingerprint != info.vocabulary_fingerprint:
            raise SessionError(
                f"The session belongs to {header.reference} ({header.engine}); {model.name} has another vocabulary.",
                hint=f"Open {header.reference} instead.",
            )
        if any(not 0 <= token < info.vocabulary_tokens for token in header.tokens):
            raise SessionError("The session has tokens that the vocabulary does not have.")
        session = cls(model, tools=header.tools, owns_model=owns_model)
        session.tokens = header.tokens
        session.messages = [dict(message) for message in header.messages]
        same = (header.engine, header.engine_version) == (info.engine, model.engine_version)
        usable = native and same and "load_session" in info.capabilities
        if usable and header.model_sha256 == _sha256(info.path, _stamp(info.path)):
            model.load_state(header.tokens, native)
        return session

    def close(self) -> None:
        """Close the model, if this session opened it."""
        if self._owns_model:
            self.model.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


def _stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of a model's files: while they stay, so does the digest."""
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


@lru_cache(maxsize=16)
def _sha256(path: Path, _stamp: tuple[tuple[str, int, int], ...]) -> str:
    try:
        return session_file.files_sha256(path)
    except OSError as error:
        raise EnginebayError(f"The model files at {path} cannot be read: {error.strerror}.") from error
