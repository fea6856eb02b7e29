from __future__ import annotations

import math

import numpy as np
import pytest

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture
from mixwright.core.run import ModelSize
from mixwright.store.tokens import TokenStore, write_tokens
from mixwright.train.evaluate import SMOOTHING, Metric, open_metrics, unigram, unigram_loss


def test_windows_lie_evenly_over_the_whole_store(tmp_path) -> None:
    write_tokens(tmp_path, [np.arange(1001)], vocab=2000, tokenizer="t", end=0, text_bytes=3003)
    metric = Metric.open("val:a", TokenStore.open(tmp_path), 3003, seq_len=10, tokens=50)
    assert metric.windows[:, 0].tolist() == [100, 300, 500, 700, 900]
    assert metric.windows.shape == (5, 11)
    everything = Metric.open("val:a", TokenStore.open(tmp_path), 3003, seq_len=10, tokens=10**6)
    assert everything.windows[:, 0].tolist() == list(range(0, 1000, 10))


def test_bits_per_byte(tmp_path) -> None:
    metric = Metric("val:a", np.zeros((1, 2), dtype=np.int64), 4.0)
    assert metric.bits_per_byte(8 * math.log(2)) == pytest.approx(2.0)


def test_a_text_too_short_for_a_window_is_told(tmp_path) -> None:
    write_tokens(tmp_path, [np.arange(10)], vocab=20, tokenizer="t", end=0, text_bytes=30)
    with pytest.raises(DataError, match="target:x has 10 tokens, too few for one window of 10"):
        Metric.open("target:x", TokenStore.open(tmp_path), 30, seq_len=10, tokens=50)


def test_the_unigram_model_is_that_of_the_mixture(corpus) -> None:
    stores = {name: TokenStore.open(corpus.path / "train" / name) for name in ("a", "b")}
    frequency = unigram(stores, Mixture(("a", "b"), np.array([0.25, 0.75])))
    assert frequency.sum() == pytest.approx(1)
    part = {name: store.counts / store.tokens for name, store in stores.items()}
    wanted = 0.99 * (0.25 * part["a"] + 0.75 * part["b"]) + SMOOTHING / frequency.size
    assert frequency == pytest.approx(wanted)


def test_an_untrained_model_scores_as_the_unigram_frequencies(corpus) -> None:
    from mixwright.train.distributed import Ranks
    from mixwright.train.measuring import metric_loss
    from mixwright.train.model import Model

    stores = {name: TokenStore.open(corpus.path / "train" / name) for name in ("a", "b", "c")}
    frequency = unigram(stores, Mixture.uniform(("a", "b", "c")))
    model = Model(ModelSize(8, 1), frequency, 0)
    for metric in open_metrics(corpus.path, seq_len=16, tokens=200):
        assert metric_loss(model, metric, Ranks.current(), "cpu") == pytest.approx(
            unigram_loss(metric, frequency), abs=1e-5
        )


def test_metrics_are_those_of_the_corpus(corpus) -> None:
    names = [metric.name for metric in open_metrics(corpus.path, seq_len=16, tokens=64)]
    assert sorted(names) == ["target:x", "target:y", "val:a", "val:b", "val:c"]
    assert {m.name for m in open_metrics(corpus.path, seq_len=16, tokens=64, only="target:")} == {
        "target:x",
        "target:y",
    }
