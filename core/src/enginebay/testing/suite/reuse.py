"""Clauses on what is computed once and used again, and on vectors. The same computed from nothing is the judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from enginebay.errors import Unsupported
from enginebay.model import Model
from enginebay.result import Result
from enginebay.testing.base import Subject, refused


class ReuseClauses(Subject):
    """Prefixes, several results of one prompt, saved states and sessions, embeddings, ranks."""

    def test_e66_prefix_reuse(self, opened: Model) -> None:
        """E66 A prefix that is used again changes no token; with ``cache_prompt=False`` none is.

        Look at what is dropped where two prompts part, and at ``usage.cached_tokens``.
        """
        begin = self.long_prompt(opened, min(80, opened.info.context_tokens // 3))
        endings = [opened.tokenize(text, special=False) for text in (" one", " another one", " one more time", "")]
        prompts = [[*begin, *ending] for ending in endings]
        prompts += [prompts[0], begin[:-20] + endings[1], begin + endings[2]]
        for prompt in prompts:
            for run in (self.greedy, *([] if self.lacks(opened, "seed") else [self.drawn])):
                warm: Result = run(opened, prompt)
                fresh: Result = run(opened, prompt, cache_prompt=False)
                assert warm.tokens == fresh.tokens
                assert fresh.usage.cached_tokens == 0
                assert warm.usage.cached_tokens < len(prompt)

    def test_e67_choices(self, opened: Model) -> None:
        """E67 Several results of one prompt are those of as many requests with seeds that follow each other.

        Look at sequences that share a prefix and write into each other.
        """
        options: dict[str, Any] = {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "ignore_end": True}
        if self.lacks(opened, "seed"):
            pytest.skip("the engine does not declare seeds")
        prompt = self.long_prompt(opened, min(60, opened.info.context_tokens // 3))
        n = opened.info.sequences + 2
        alone = [self.drawn(opened, prompt, seed=40 + i).tokens for i in range(n)]
        choices = self.within(lambda: opened.choices(prompt, n, seed=40, max_tokens=self.tokens, **options))
        assert [result.tokens for result in choices] == alone

    def test_e68_saved_state(self, opened: Model) -> None:
        """E68 A saved state continues in a freshly loaded model with the same tokens, and spares it the prompt.

        Look at what the state leaves out, and at a state that does not fit being taken.
        """
        prompt = self.long_prompt(opened, min(80, opened.info.context_tokens // 3))
        if self.lacks(opened, "save_session"):
            with refused(Unsupported):
                opened.save_state(prompt)
            if self.lacks(opened, "load_session"):
                with refused(Unsupported):
                    opened.load_state(prompt, b"state")
            return
        said = [*prompt, *self.greedy(opened, prompt).tokens]
        state = opened.save_state(said)
        expected = self.greedy(opened, said, cache_prompt=False).tokens
        assert state
        with self.open() as fresh:
            restored = fresh.load_state(said, state)
            assert 0 < restored <= len(said)
            result = self.greedy(fresh, said)
            assert result.tokens == expected
            assert result.usage.cached_tokens > 0, "the restored state was not used"

    def test_e69_embed(self, opened: Model) -> None:
        """E69 Embeddings are finite float32 vectors, one a text, equal for equal texts, of length 1 when normalised.

        Look at pooling, and at texts that are embedded together.
        """
        if self.lacks(opened, "embed"):
            with refused(Unsupported):
                opened.embed(["a"])
            return
        texts = ["a cat", "a dog sleeps in the sun", "a cat"]
        vectors = opened.embed(texts, normalize=True)
        assert vectors.dtype.name == "float32"
        assert vectors.shape == (3, opened.embed(["x"]).shape[1])
        assert [float((row * row).sum()) for row in vectors] == pytest.approx([1.0] * 3, abs=1e-3)
        assert vectors[0].tolist() == pytest.approx(vectors[2].tolist(), abs=1e-4)
        assert max(abs(vectors[0] - vectors[1]).tolist()) > 1e-3
        assert opened.embed(texts[1:2], normalize=True)[0].tolist() == pytest.approx(vectors[1].tolist(), abs=1e-4)

    def test_e70_rerank(self, opened: Model) -> None:
        """E70 Reranking gives one score a document, the same in any order; an engine that cannot says so.

        Look at whether the capability is declared for this model.
        """
        documents = ["cats sleep all day", "the engine has eight cylinders", "a cat sleeps"]
        if self.lacks(opened, "rerank"):
            with refused(Unsupported):
                opened.rerank("how long do cats sleep?", documents)
            return
        scores = opened.rerank("how long do cats sleep?", documents)
        assert len(scores) == len(documents)
        turned = opened.rerank("how long do cats sleep?", documents[::-1])
        assert turned[::-1] == pytest.approx(scores, abs=1e-3)

    def test_e72_session(self, opened: Model, tmp_path: Path) -> None:
        """E72 A saved session goes on in a freshly loaded model with the tokens that it would have gone on with.

        Look at the state that was restored, and at tokens that are lost or doubled between two turns.
        """
        if self.lacks(opened, "detokenize"):
            pytest.skip("a session of a chat needs the text of tokens")
        options: dict[str, Any] = {"temperature": 1.0, "seed": 5, "max_tokens": self.tokens, "ignore_end": True}
        if self.lacks(opened, "seed"):
            options["temperature"] = 0.0
        session = opened.session()
        self.within(lambda: session.send(self.prompt, **options))
        session.save(tmp_path / "session")
        told = session.tokens
        expected = self.within(lambda: session.send("And then?", **options))
        with self.open() as fresh:
            restored = fresh.load_session(tmp_path / "session")
            assert restored.tokens == told
            result = self.within(lambda: restored.send("And then?", **options))
            assert result.tokens == expected.tokens
            assert result.usage.prompt_tokens == expected.usage.prompt_tokens
