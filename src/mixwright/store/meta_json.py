"""Columns of an Arrow batch as one column of JSON objects, the text that ``json.dumps`` gives, without a loop where possible.

Strings, whole numbers, truth values, dates, and lists and structs of them are written by polars, whose text is the same;
floats (``repr``) and all other types value by value.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mixwright.store.utf8 import as_large_binary, holds_strings, replaced

if TYPE_CHECKING:
    import pyarrow as pa


def as_json(batch: pa.RecordBatch) -> pa.Array:
    """A JSON object per row, large strings ``(n,)``; of columns with one name the last counts.

    Strings that are not UTF-8 have U+FFFD in place of what is wrong, as JSON holds text only. Cost: about 1 GB/s of
    strings, 1 microsecond for other values.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    if not columns:
        return pa.array(["{}"] * batch.num_rows, pa.large_string())
    read = {name: _readable(column) for name, column in columns.items()}
    parts = [
        _plain_members(dict(run)) if plain else _other_members(*one)
        for plain, run in itertools.groupby(read.items(), key=lambda one: _is_plain(one[1].type))
        for one in ([(None, None)] if plain else run)
    ]
    large = pa.large_string()
    whole = parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, pa.scalar(",", large))
    return pc.binary_join_element_wise(pa.scalar("{", large), whole, pa.scalar("}", large), pa.scalar("", large))


def _readable(column: pa.Array) -> pa.Array:
    return replaced(as_large_binary(column)) if holds_strings(column.type) else column


def _plain_members(columns: Mapping[str, pa.Array]) -> pa.Array:
    """``"name":value,"name":value`` of each row."""
    import polars as pl
    import pyarrow as pa
    import pyarrow.compute as pc

    series = [pl.Series(name, column) for name, column in columns.items()]
    encoded = pl.select(pl.struct(series).struct.json_encode()).to_series().to_arrow()
    return pc.utf8_slice_codeunits(encoded.cast(pa.large_string()), 1, -1)


def _other_members(name: str, column: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    key = f"{dumps(name)}:"
    finite = pa.types.is_floating(column.type) and not column.null_count and pc.all(pc.is_finite(column)).as_py()
    write = float.__repr__ if finite else dumps
    return pa.array([key + write(value) for value in _values(column)], pa.large_string())


def _values(column: pa.Array) -> list[Any]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:  # strings within lists or structs
        return [_repaired(value) for value in column]


def _repaired(value: Any) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return "not UTF-8"


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str)


def dumps(value: Any) -> str:
    """JSON without spaces, other characters than ASCII as they are; what JSON has no form for as its ``str``."""
    return _ENCODER.encode(value)


def _is_plain(kind: pa.DataType) -> bool:
    """Whether polars and ``json`` write values of this type alike."""
    import pyarrow as pa

    types = pa.types
    return bool(types.is_integer(kind) or types.is_boolean(kind) or types.is_large_string(kind))
