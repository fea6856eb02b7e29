from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mixwright.store.tokens import TokenStore, write_tokens


@pytest.fixture
def stores(tmp_path: Path) -> dict[str, TokenStore]:
    """Domains a, b, c of 5, 40 and 17 windows of 8 tokens, whose ids say where they are: domain * 1000 + place."""
    found = {}
    for number, (name, windows) in enumerate({"a": 5, "b": 40, "c": 17}.items()):
        ids = number * 1000 + np.arange(windows * 8 + 1)
        write_tokens(tmp_path / name, [ids], vocab=5000, tokenizer="t", end=0, text_bytes=ids.size)
        found[name] = TokenStore.open(tmp_path / name)
    return found
