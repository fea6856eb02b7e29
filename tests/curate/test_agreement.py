"""Agreement of scorers, against scipy and plain sets."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr

from mixwright.core.errors import DataError
from mixwright.core.rng import rng
from mixwright.curate.agreement import agreement, of_votes
from mixwright.curate.rules import Bounds, Options
from mixwright.curate.tables import SignalTable


def test_ranks_and_kept_sets() -> None:
    draw = rng(0, "agreement")
    base = draw.standard_normal(300)
    scores = {
        "a": base,
        "b": np.round(base + 0.5 * draw.standard_normal(300), 1),  # with ties
        "c": draw.standard_normal(300),
    }
    scores["b"][:20] = np.nan
    found = agreement(scores, low=-0.5, high={"a": 0.5, "b": 0.4, "c": np.inf})
    high = {"a": 0.5, "b": 0.4, "c": np.inf}
    kept = {
        name: {row for row, value in enumerate(values) if -0.5 <= value <= high[name]}
        for name, values in scores.items()
    }
    for i, one in enumerate(scores):
        for j, other in enumerate(scores):
            both = np.isfinite(scores[one]) & np.isfinite(scores[other])
            assert found.compared[i, j] == both.sum()
            assert found.spearman[i, j] == pytest.approx(spearmanr(scores[one][both], scores[other][both]).statistic)
            assert found.jaccard[i, j] == len(kept[one] & kept[other]) / len(kept[one] | kept[other])
    votes = [sum(row in rows for rows in kept.values()) for row in range(300)]
    assert found.votes.tolist() == [votes.count(k) for k in range(4)]
    assert found.kept.tolist() == [len(rows) for rows in kept.values()]


def test_the_votes_of_a_study(tmp_path) -> None:
    draw, columns = rng(1, "votes"), ("chars", "words", "alnum_ratio")
    parts = [draw.uniform(0, 1, (count, 3)) for count in (30, 50, 20)]
    tables = []
    for number, part in enumerate(parts):
        path = tmp_path / f"{number:05d}.parquet"
        pq.write_table(pa.table(dict(zip(columns, part.T, strict=True))), path)
        tables.append(SignalTable((path,), "s", "s", target=number == 2))
    options = Options(
        rules={
            "vote": Bounds(min=0.3, max=0.8, columns=columns),
            "low": Bounds(min="p10", columns=columns[:2]),
            "chars": Bounds(min=0.1),
        }
    )
    found = of_votes(tables, options)
    rows = np.concatenate(parts[:2])
    expected = agreement(dict(zip(columns, rows.T, strict=True)), low=0.3, high=0.8)
    assert list(found) == ["vote", "low"]
    assert found["vote"].to_dict() == expected.to_dict()
    assert found["low"].kept.tolist() == [80, 80]


def test_nothing_to_compare_is_no_number() -> None:
    none = np.array([np.nan, np.nan])
    found = agreement({"a": none, "b": np.array([1.0, 2.0]), "c": np.array([3.0, 3.0])}, low=5)
    assert np.isnan(found.spearman[0]).all()
    assert np.isnan(found.spearman[1, 2]), "equal numbers have no order"
    assert np.isnan(found.jaccard).all()
    assert found.votes.tolist() == [2, 0, 0, 0]
    assert found.to_dict()["spearman"][0] == [None, None, None]
    with pytest.raises(DataError, match="a 2, b 3"):
        agreement({"a": none, "b": np.zeros(3)})
