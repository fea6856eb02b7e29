"""What must hold of any bytes as a file of documents, and a loop by atheris that looks for bytes of which it does not.

    python tests/store/fuzz_readers.py -runs=5000 [-seed=1]

JSONL      rows read + rows unreadable = lines that are not blank; the same in two pieces
.gz, .zst  a whole stream as the lines in it; another at least one row, or none where only blanks come out
Parquet    rows read + rows unreadable = rows in its footer; one unreadable row where that cannot be read
text       one row, read or not
Meta or none, the same rows are readable. The one error is DataError.
"""

import contextlib
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mixwright.core.errors import DataError
from mixwright.store import batches, json_rows, parquet_rows, row_batch, streams, utf8
from mixwright.store.batches import read_batches
from mixwright.store.documents import SourceFile, SourceOptions
from mixwright.store.pieces import Piece

GIVEN = SourceOptions("-")
#: small limits, so that they are met
LIMITS = {"max_inflation": 50.0, "max_row": 1 << 16, "size": 256}
#: rows of a footer above which they are told as one
_TOLD_AS_ONE = 1 << 20


def numbers(piece: Piece, *, first_row: int = 0) -> list[int]:
    """The numbers of all rows, readable or not, after checking that ``meta`` changes nothing."""
    found: list[int] = []
    readable: list[list[int]] = []
    for meta in (True, False):
        made = list(read_batches(piece, GIVEN, first_row=first_row, meta=meta, **LIMITS))  # type: ignore[arg-type]
        readable.append([row for batch in made for row in batch.rows.tolist()])
        found = [row for batch in made for row in sorted([*batch.rows.tolist(), *(b.row for b in batch.unreadable)])]
        for batch in made:
            batch.texts.validate(full=True)
            assert len(batch.texts) == len(batch.rows)
            assert (batch.meta is not None) == meta
    assert readable[0] == readable[1]
    return found


def written(folder: Path, name: str, content: bytes) -> SourceFile:
    """A file of these bytes."""
    path = folder / name
    path.write_bytes(content)
    form = "parquet" if ".parquet" in name else "jsonl" if ".jsonl" in name else "text"
    return SourceFile(str(path), name, form, len(content))  # type: ignore[arg-type]


def lines_of(content: bytes) -> list[int]:
    """The numbers of the lines that are rows."""
    lines = [line if n else line.removeprefix(b"\xef\xbb\xbf") for n, line in enumerate(content.split(b"\n"))]
    return [n for n, line in enumerate(lines, 1) if line.strip()]


def check_jsonl(folder: Path, content: bytes) -> None:
    """Plain lines, whole and in two pieces."""
    file = written(folder, "a.jsonl", content)
    wanted = lines_of(content)
    assert numbers(Piece(file)) == wanted
    if len(content) > 1:
        cut = len(content) // 2
        before = content[:cut].count(b"\n") + (not content[:cut].endswith(b"\n"))
        parts = [(Piece(file, 0, cut), 0), (Piece(file, cut, len(content)), before)]
        assert [row for piece, first in parts for row in numbers(piece, first_row=first)] == wanted


def check_stream(folder: Path, content: bytes, suffix: str) -> None:
    """Any bytes as a compressed stream: what comes out is told in order, and what is damaged once, at the end."""
    found = numbers(Piece(written(folder, f"a.jsonl{suffix}", content)))
    assert found == sorted(set(found))
    assert len(numbers(Piece(written(folder, f"a.txt{suffix}", content)))) == 1


def check_text(folder: Path, content: bytes) -> None:
    """One row."""
    assert numbers(Piece(written(folder, "a.txt", content))) == [1]


def check_parquet(folder: Path, content: bytes) -> None:
    """As many rows as the footer says."""
    file = written(folder, "a.parquet", content)
    try:
        about = pq.read_metadata(file.path)
        groups = [about.row_group(n).num_rows for n in range(about.num_row_groups)]
    except (pa.ArrowException, OSError, RuntimeError, ValueError):
        groups = []
    if any(rows < 0 or rows > _TOLD_AS_ONE for rows in groups):
        with contextlib.suppress(DataError):
            next(read_batches(Piece(file), GIVEN, **LIMITS), None)  # type: ignore[arg-type]
        return
    with contextlib.suppress(DataError):
        found = numbers(Piece(file))
        assert found in ([1], list(range(1, sum(groups) + 1)))


def a_parquet_file(folder: Path, number: int) -> bytes:
    """A small file with several row groups, columns and encodings."""
    texts = [f"row {n} " * (n % 7) for n in range(60)]
    table = pa.table({"text": texts, "n": list(range(60)), "s": [[{"a": "b"}]] * 60})
    pq.write_table(table, folder / "seed", row_group_size=20, use_dictionary=bool(number % 2),
                   compression=["zstd", "snappy", "none"][number % 3])  # fmt: skip
    return (folder / "seed").read_bytes()


def changed(content: bytes, edits: bytes) -> bytes:
    """``content`` with bytes overwritten: three bytes of ``edits`` are a place and a value."""
    out = bytearray(content)
    for at in range(0, len(edits) - 2, 3):
        out[(edits[at] << 8 | edits[at + 1]) % len(out)] = edits[at + 2]
    return bytes(out)


def main() -> None:
    """Run the loop until ``-runs`` are done; a crash or a broken promise ends it with an error."""
    import atheris

    for module in (batches, json_rows, parquet_rows, row_batch, streams, utf8):
        for name, value in list(vars(module).items()):
            if getattr(value, "__module__", None) == module.__name__ and hasattr(value, "__code__"):
                setattr(module, name, atheris.instrument_func(value))
    folder = Path(tempfile.mkdtemp())
    seeds = [a_parquet_file(folder, number) for number in range(6)]
    checks = [
        check_jsonl,
        check_text,
        lambda folder, content: check_stream(folder, content, ".gz"),
        lambda folder, content: check_stream(folder, content, ".zst"),
        lambda folder, content: check_parquet(folder, changed(seeds[len(content) % len(seeds)], content)),
        check_parquet,
    ]

    def one(data: bytes) -> None:
        if data:
            checks[data[0] % len(checks)](folder, data[1:])

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
