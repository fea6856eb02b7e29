"""A recipe of two phases, and a small token store to try it on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mixwright.core.mixture import Mixture
from mixwright.core.objective import Objective
from mixwright.core.recipe import Recipe
from mixwright.core.rng import rng
from mixwright.core.schedule import Phase, Schedule
from mixwright.store.tokens import TokenStore, write_tokens

DOMAINS = ("web", "code", "papers")


@pytest.fixture
def recipe() -> Recipe:
    base = Mixture.normalized(DOMAINS, [0.61, 0.29, 0.1])
    last = Mixture.normalized(DOMAINS, [0.0, 2 / 3, 1 / 3])
    schedule = Schedule((Phase(80_100, base), Phase(19_900, last)))
    return Recipe(schedule, Objective(), supply={"web": 60_000, "code": 30_000, "papers": 5_000})


@pytest.fixture
def tokens_root(tmp_path: Path) -> Path:
    supply = {"web": 60_000, "code": 30_000, "papers": 5_000}
    for first, (name, tokens) in enumerate(supply.items()):
        # every document of a domain holds its own number, so that a sample shows where it came from
        documents = [np.append(np.full(99, 1 + first + 3 * n), 0) for n in range(tokens // 100)]
        folder = tmp_path / "corpus" / "train" / name
        write_tokens(folder, documents, vocab=4096, tokenizer="toy", end=0, text_bytes=tokens * 3)
    return tmp_path / "corpus"


@pytest.fixture
def sharded_root(tokens_root: Path, tmp_path: Path) -> Path:
    """The same documents, those of web and code in several shards; papers in one."""
    for name, shard_tokens in {"web": 25_000, "code": 14_000, "papers": 0}.items():
        ids = TokenStore.open(tokens_root / "train" / name).ids
        folder = tmp_path / "sharded" / "train" / name
        documents = list(np.asarray(ids).reshape(-1, 100))
        write_tokens(
            folder, documents, vocab=4096, tokenizer="toy", end=0, text_bytes=ids.size * 3, shard_tokens=shard_tokens
        )
    return tmp_path / "sharded"


@pytest.fixture
def numbers() -> np.random.Generator:
    return rng(3, "export")
