from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mixwright.core.corpus import Corpus, Domain
from mixwright.core.mixture import Mixture
from mixwright.core.run import ModelSize, Run
from mixwright.core.schedule import Schedule
from mixwright.store.artifact import Artifact, Workspace, write_json
from mixwright.store.tokens import write_tokens

VOCAB, DOMAINS = 48, ("a", "b", "c")


def text(seed: int, step: int, count: int) -> list[np.ndarray]:
    """Documents in which each id is the one before plus ``step``, now and then a random one."""
    draw = np.random.default_rng(seed)
    documents = []
    for _ in range(count):
        jumps = np.where(draw.random(60) < 0.2, draw.integers(0, VOCAB - 1, 60), step)
        documents.append(np.r_[1 + np.cumsum(jumps) % (VOCAB - 1), 0])
    return documents


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Artifact:
    """A tokenize artifact of three domains and two targets, some thousand tokens each."""
    workspace = Workspace(tmp_path_factory.mktemp("corpus"))
    draft = workspace.draft("tokenize", "tiny")
    metrics, domains = {}, []

    def write(path: str, seed: int, step: int, count: int) -> dict:
        documents = text(seed, step, count)
        made = write_tokens(draft.path / path, documents, vocab=VOCAB, tokenizer="t", end=0, text_bytes=200 * count)
        return {"path": path, "tokens": made["tokens"], "bytes": 200 * count, "documents": count}

    for number, name in enumerate(DOMAINS):
        tokens = write(f"train/{name}", number, number + 1, 40)["tokens"]
        domains.append(Domain(name, tokens, 8000, 40))
        metrics[f"val:{name}"] = write(f"val/{name}", 10 + number, number + 1, 8)
    for number, name in enumerate(("x", "y")):
        metrics[f"target:{name}"] = write(f"target/{name}", 20 + number, number + 2, 8)
    write_json(draft.path / "metrics.json", metrics)
    write_json(draft.path / "corpus.json", Corpus(tuple(domains), "t", VOCAB, "print").to_dict())
    return draft.seal(settings={}, inputs={})


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work")


@pytest.fixture
def make_run():
    """``make_run(name, weights, tokens=, seed=)`` over the corpus' domains at the smallest size."""

    def make(name: str = "run", weights=(0.5, 0.3, 0.2), *, tokens: int = 480, seed: int = 0) -> Run:
        mixture = Mixture.normalized(DOMAINS, weights)
        return Run(name, Schedule.constant(mixture, tokens), ModelSize(8, 1), seed)

    return make
