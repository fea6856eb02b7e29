"""The corpus: real text of many kinds from Debian packages and installed Python source, with planted near-duplicates.

    python -m benchmarks.curate.corpus [--megabytes 400] [--seed 7] [--folder benchmarks/.envs/curate-data]

Html loses its tags, scripts and styles; manual pages keep their roff source, XML its tags; a file that is no UTF-8 is left out.
A file is cut at blank lines or line ends into documents of at most 16,000 characters; equal documents are kept once. Then
10 % of all documents are near-duplicates of others (``planting.py``). Documents are shuffled over row groups of 100 MB of
text, zstd level 3. Where real text is wanting (a corpus of several GB), documents with every third word replaced fill up.

Left behind in ``FOLDER/corpus-MEGABYTES-SEED/``: ``corpus.parquet`` (id, text, kind), ``truth.parquet`` (id, of, kind, jaccard)
and ``facts.json``; ``slices.py`` cuts the peers' slices. Memory: about 300 MB beside 50 bytes a document.
"""

import argparse
import hashlib
import html
import json
import re
import shutil
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.curate import debian, planting
from benchmarks.curate.jaccard import grams, jaccard
from benchmarks.curate.packages import DOCUMENTATION, SHARES, SOURCES, kind_of

from mixwright.core.rng import derive_seed, rng

ROOT = Path(__file__).parent.parent.parent
DATA = ROOT / "benchmarks" / ".envs" / "curate-data"
GROUP, LONGEST, SHORTEST = 100_000_000, 16_000, 200
#: one in ten documents of the whole is planted
PLANTED = 0.1
#: the share of words replaced in a document that only fills up: Jaccard about 0.09
FILLED = 0.3
#: how much of a file's bytes becomes text, for the quotas
_YIELD = {"html": 0.5, "man": 0.98, "text": 0.9, "code": 0.95, "xml": 0.95}
SCHEMA = pa.schema([("id", pa.string()), ("text", pa.large_string()), ("kind", pa.string())])
TRUTH = pa.schema([("id", pa.string()), ("of", pa.string()), ("kind", pa.string()), ("jaccard", pa.float64())])
_DROPPED = re.compile(r"<(script|style|svg|head)\b.*?</\1\s*>|<!--.*?-->", re.DOTALL | re.IGNORECASE)
_BREAKS = re.compile(r"<(?:/?(?:p|div|tr|table|ul|ol|dl|h[1-6]|section|pre)|br|li|dt|dd|hr)\b[^>]*>", re.IGNORECASE)
_TAGS = re.compile(r"<[^>]*>")
_BLANK = re.compile(r"[ \t]*\n(?:[ \t]*\n)+")


def stripped(source: str) -> str:
    """The text of a page: its tags removed, blocks on lines of their own."""
    text = _TAGS.sub("", _BREAKS.sub("\n", _DROPPED.sub(" ", source)))
    return _BLANK.sub("\n\n", html.unescape(text)).strip()


def documents(kind: str, content: bytes) -> Iterator[str]:
    """The documents of a file; none if it is no UTF-8 or nearly empty."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return
    text = text.replace("\r\n", "\n")
    if "\0" in text:
        return
    text = stripped(text) if kind == "html" else text.strip()
    while len(text) > LONGEST:
        cut = text.rfind("\n\n", SHORTEST, LONGEST)
        cut = cut if cut > LONGEST // 2 else text.rfind("\n", SHORTEST, LONGEST)
        cut = cut if cut > 0 else LONGEST
        yield text[:cut].strip()
        text = text[cut:].strip()
    if len(text) >= SHORTEST:
        yield text


def files(debs: dict[str, Path]) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """Every file that is taken: its package and path, its kind, and a function that reads it."""
    for name, path in debs.items():
        for entry, read in debian.entries(path):
            kind = kind_of(entry)
            if kind:
                yield f"{name}:{entry}", kind, read
    places = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    for entry, read in debian.installed(places[:1] if places[1].is_relative_to(places[0]) else places):
        yield f"python:{entry}", "code", read


def chosen(debs: dict[str, Path], wanted: int, seed: int) -> set[str]:
    """Names of files that together hold about ``wanted`` bytes of text, kinds as in SHARES, no package above a third of a
    kind; a kind that has too little gives its share to the others."""
    have: dict[str, list[tuple[int, str, int]]] = {kind: [] for kind in SHARES}
    for name, kind, read in files(debs):
        size = int(len(read()) * _YIELD[kind])
        if size >= SHORTEST:
            have[kind].append((derive_seed(seed, "file", name), name, size))
    names: set[str] = set()
    missing, kinds = float(wanted), sorted(have, key=lambda kind: sum(one[2] for one in have[kind]) / SHARES[kind])
    for number, kind in enumerate(kinds):
        quota = missing * SHARES[kind] / sum(SHARES[other] for other in kinds[number:])
        taken, of = 0, dict[str, int]()
        for _, name, size in sorted(have[kind]):
            package = name.partition(":")[0]
            if taken < quota and of.get(package, 0) + size <= max(quota / 3, 2_000_000):
                names.add(name)
                taken, of[package] = taken + size, of.get(package, 0) + size
        missing -= taken
    return names


class Spool:
    """Documents spread over row groups at random, on disk until a group is whole."""

    def __init__(self, folder: Path, groups: int, seed: int) -> None:
        self.folder, self.groups, self.seed = folder, groups, seed
        self.held: list[list[tuple[str, str, str]]] = [[] for _ in range(groups)]
        self.bytes, self.count, self.written, self.flushes = 0, 0, {}, 0
        folder.mkdir(parents=True)

    def put(self, ident: str, text: str, kind: str) -> None:
        self.held[derive_seed(self.seed, "group", ident) % self.groups].append((ident, text, kind))
        size = len(text.encode())
        self.written[kind] = self.written.get(kind, 0) + size
        self.bytes, self.count = self.bytes + size, self.count + 1
        if self.bytes > 60_000_000 * (self.flushes + 1):
            self.flush()

    def flush(self) -> None:
        self.flushes += 1
        for number, rows in enumerate(self.held):
            table = (
                pa.table(dict(zip(SCHEMA.names, zip(*rows, strict=True), strict=True)), SCHEMA)
                if rows
                else SCHEMA.empty_table()
            )
            pq.write_table(
                table, self.folder / f"{number:04d}-{self.flushes:05d}.parquet", compression="zstd", compression_level=1
            )
            rows.clear()

    def again(self) -> Iterator[tuple[str, str, str]]:
        """What has been put so far; more may be put meanwhile."""
        self.flush()
        for path in sorted(self.folder.glob("*.parquet")):
            table = pq.read_table(path)
            yield from zip(*(table[name].to_pylist() for name in SCHEMA.names), strict=True)

    def collect(self, path: Path) -> None:
        """All documents into one file, a row group at a time, each in an order drawn for it."""
        self.flush()
        with pq.ParquetWriter(path, SCHEMA, compression="zstd", compression_level=3, use_dictionary=["kind"]) as out:
            for number in range(self.groups):
                table = pa.concat_tables(pq.read_table(one) for one in sorted(self.folder.glob(f"{number:04d}-*")))
                order = rng(self.seed, "order", number).permutation(table.num_rows)
                out.write_table(table.take(pa.array(order)).combine_chunks(), row_group_size=table.num_rows)
        shutil.rmtree(self.folder)


class Planter:
    """Plants near-duplicates and fillers beside the documents that pass, and keeps the truth about them."""

    def __init__(self, spool: Spool, seed: int) -> None:
        self.spool, self.seed = spool, seed
        self.truth: list[tuple[str, str, str, float]] = []
        self.words: list[str] = []
        self.kinds = list(planting.KINDS)
        self.shares = np.array(list(planting.KINDS.values()))

    def see(self, ident: str, text: str, kind: str, fillers: int = 0) -> None:
        draw = rng(self.seed, "plant", ident)
        found = text.split()
        if found:
            self.words.append(found[int(draw.integers(len(found)))])
            self.words = self.words[-5000:]
        if draw.random() < PLANTED / (1 - PLANTED) and len(self.words) > 100:
            which = self.kinds[int(draw.choice(len(self.kinds), p=self.shares / self.shares.sum()))]
            self.add(f"{ident}~{which}", ident, which, planting.planted(which, text, self.words, draw), text, kind)
        for number in range(fillers):
            self.spool.put(f"{ident}~filler{number}", planting.edited(text, FILLED, self.words, draw), kind)

    def fill(self, wanted: int) -> None:
        """Edit documents again, in the order of the spool, until there are ``wanted`` bytes."""
        for ident, text, kind in self.spool.again():
            if self.spool.bytes >= wanted:
                return
            if "~" not in ident:
                draw = rng(self.seed, "more", ident)
                self.spool.put(f"{ident}~more", planting.edited(text, FILLED, self.words, draw), kind)

    def add(self, ident: str, of: str, which: str, made: str, text: str, kind: str) -> None:
        self.spool.put(ident, made, kind)
        self.truth.append((ident, of, which, jaccard(grams(made), grams(text))))


def build(megabytes: int, seed: int, folder: Path) -> Path:
    """Make the corpus, or find it made; returns its folder."""
    place = folder / f"corpus-{megabytes}-{seed}"
    if (place / "facts.json").is_file():
        return place
    shutil.rmtree(place, ignore_errors=True)
    began, wanted = time.time(), megabytes * 1_000_000
    large = megabytes > 1000
    debs, missing = debian.fetched([*DOCUMENTATION, *(SOURCES if large else ())], folder / "debs")
    for name, why in missing.items():
        print(f"left out: {name} ({why})")
    names = None if large else chosen(debs, int(wanted * 1.1), seed)
    spool = Spool(place / "spool", max(1, round(wanted / GROUP)), seed)
    planter, hashes = Planter(spool, seed), set[bytes]()
    counts = {"real": 0, "equal": 0, "files": 0}
    real, fillers, draw = 0, _fillers(debs, wanted) if large else 0.0, rng(seed, "fill")
    for name, kind, read in files(debs):
        if large and spool.bytes >= wanted:
            break
        if names is not None and name not in names:
            continue
        counts["files"] += 1
        for number, text in enumerate(documents(kind, read())):
            key = hashlib.blake2b(text.encode(), digest_size=16).digest()
            if key in hashes:
                counts["equal"] += 1
                continue
            hashes.add(key)
            ident = f"{name}#{number}"
            spool.put(ident, text, kind)
            counts["real"], real = counts["real"] + 1, real + len(text.encode())
            planter.see(ident, text, kind, int(fillers) + int(draw.random() < fillers % 1))
    if large:
        planter.fill(wanted)
    spool.collect(place / "corpus.parquet")
    columns = zip(*planter.truth, strict=True)
    pq.write_table(pa.table(dict(zip(TRUTH.names, columns, strict=True)), TRUTH), place / "truth.parquet")
    facts = _facts(spool, planter, counts, real, debs, missing)
    facts |= {"seed": seed, "seconds": round(time.time() - began)}
    (place / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
    return place


def _fillers(debs: dict[str, Path], wanted: int) -> float:
    """How many fillers a real document needs so that the whole is as large as wanted; sizes are those of the names."""
    size = sum(len(read()) * _YIELD[kind] for _, kind, read in files(debs)) * 0.93 / (1 - PLANTED)
    return max(0.0, (wanted - size) / (size * (1 - PLANTED)))


def _facts(
    spool: Spool, planter: Planter, counts: dict[str, int], real: int, debs: dict[str, Path], missing: dict[str, str]
) -> dict[str, Any]:
    values = np.array([one[3] for one in planter.truth])
    return {
        "bytes": spool.bytes, "documents": spool.count, "real_bytes": real, "real_documents": counts["real"],
        "real_share": round(real / spool.bytes, 4), "planted": len(planter.truth),
        "fillers": spool.count - counts["real"] - len(planter.truth),
        "planted_at_0.8": int((values >= 0.8).sum()), "planted_at_0.7": int((values >= 0.7).sum()),
        "equal_left_out": counts["equal"], "files": counts["files"], "bytes_by_kind": spool.written,
        "packages": sorted(debs), "missing": missing,
    }  # fmt: skip


def main() -> None:
    ask = argparse.ArgumentParser(prog="python -m benchmarks.curate.corpus", description=__doc__.splitlines()[0])
    ask.add_argument("--megabytes", type=int, default=400, help="of text (default: %(default)s)")
    ask.add_argument("--seed", type=int, default=7)
    ask.add_argument("--folder", type=Path, default=DATA)
    given = ask.parse_args()
    place = build(given.megabytes, given.seed, given.folder)
    print((place / "facts.json").read_text())


if __name__ == "__main__":
    main()
