"""datasketch: MinHash signatures and MinHashLSH over word 5-grams, `python sketch.py near INPUT.parquet FOLDER`.

A document is removed if an earlier kept one collides with it. Kept ids stand in FOLDER/kept.json.
"""

import json
import re
import sys
from pathlib import Path

import pyarrow.parquet as pq
from datasketch import MinHash, MinHashLSH

WORD = re.compile(r"\w+")
BANDS, ROWS = 14, 8


def grams(text: str) -> list[bytes]:
    words = WORD.findall(text.lower())
    return [" ".join(words[at : at + 5]).encode() for at in range(max(1, len(words) - 4))]


def main() -> None:
    table = pq.read_table(sys.argv[2], columns=["id", "text"])
    folder = Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    index, kept = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS)), []
    for ident, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True):
        sketch = MinHash(num_perm=BANDS * ROWS)
        sketch.update_batch(grams(text))
        if not index.query(sketch):
            index.insert(ident, sketch)
            kept.append(ident)
    (folder / "kept.json").write_text(json.dumps(kept))


if __name__ == "__main__":
    main()
