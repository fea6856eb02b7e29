"""Real text of the running Python environment, as sources and targets of a study: no network, no bundled corpus.

Sources keep their natural proportions: of each the same fraction is taken, the files with the smallest hashes of their
names, with a least amount so that no domain is empty and a greatest weight so that none is everything. The same
installed versions give the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixwright.core.errors import DataError
from mixwright.curate.docstrings import take_apart
from mixwright.curate.installed_files import (
    LARGEST,
    PACKAGES,
    STANDARD_LIBRARY,
    Found,
    installed_files,
    licences,
    python_headers,
    readme,
    versions,
    written_by_hand,
)  # fmt: skip
from mixwright.store.artifact import read_json, write_atomic, write_json

SCHEMA = "mixwright/harvest/1"
#: a domain gets at least this many bytes (or all it has), and at most this weight of the whole
_LEAST, _GREATEST = 600_000, 0.45
#: bytes of files read to see how much text a domain holds per byte of file
_PILOT = 750_000
#: characters from which a docstring is a document of its own
_LONG_DOCSTRING = 200
#: packages whose C++ headers are taken; numpy's are C and may be a target
_CXX_PACKAGES = frozenset({"torch", "pyarrow", "scipy"})
_CXX = frozenset({".h", ".hpp", ".cuh"})
_TABLES = frozenset({".csv", ".dat", ".txt", ".arff"})
#: share of digits from which a file is a table of numbers
_DIGITS = 0.3
#: test vectors above this many bytes are left out: a domain of half a megabyte should be more than two documents
_LARGEST_VECTORS = 100_000
#: a study of mixtures needs some domains
_FEWEST = 4

OnProgress = Callable[[str, float, dict[str, Any]], None]


@dataclass(frozen=True)
class _Text:
    """One document to be."""

    text: str
    path: str
    package: str

    def line(self) -> str:
        """Its row of a JSONL file."""
        row = {"text": self.text, "path": self.path, "package": self.package}
        return json.dumps(row, ensure_ascii=False) + "\n"


@dataclass
class _Pool:
    """Files that yield text of one or two domains; taken in order, each read once."""

    files: Sequence[Found]
    extract: Callable[[Found, str], Mapping[str, Sequence[_Text]]]
    taken: list[Mapping[str, Sequence[_Text]]] = field(default_factory=list)
    read: int = 0

    def more(self) -> Mapping[str, Sequence[_Text]] | None:
        """The text of the next file, None when all are read."""
        if len(self.taken) == len(self.files):
            return None
        file = self.files[len(self.taken)]
        self.read += file.bytes
        text = file.read()
        self.taken.append({} if text is None else self.extract(file, text))
        return self.taken[-1]

    def available(self, domain: str) -> float:
        """About how many bytes of a domain all files hold, judged by the first of them."""
        while self.read < _PILOT and self.more() is not None:
            pass
        seen = sum(_bytes(found.get(domain, ())) for found in self.taken)
        return seen / max(1, self.read) * sum(file.bytes for file in self.files)

    def take(self, domain: str, budget: float) -> tuple[list[_Text], int]:
        """Whole files until the budget is met, by name; and how many were passed over: not UTF-8, or generated."""
        chosen: list[_Text] = []
        size, at, skipped = 0, 0, 0
        while size < budget and (at < len(self.taken) or self.more() is not None):
            texts = self.taken[at].get(domain)
            chosen += texts or ()
            size += _bytes(texts or ())
            skipped += texts is None
            at += 1
        return sorted(chosen, key=lambda text: (text.package, text.path)), skipped


def _bytes(texts: Iterable[_Text]) -> int:
    return sum(len(text.text.encode()) for text in texts)


@dataclass(frozen=True)
class _Domain:
    """A domain of the harvest: where its text comes from and the sentence that says so."""

    name: str
    pool: _Pool
    rule: str
    licence: str = ""


def harvest(out: Path, *, megabytes: float = 24.0, on_progress: OnProgress | None = None) -> dict[str, Any]:
    """Write ``out/sources/<domain>.jsonl``, ``out/targets/<name>.jsonl`` and, last, ``out/harvest.json``; return that.

    Rows are {"text", "path", "package"}; one file is one document, or one docstring, or one topic. About ``megabytes``
    of training text. Raises DataError if fewer than four domains are found. Cost: about 5 CPU-seconds at 24 MB.
    """
    report = on_progress or (lambda *_: None)
    report("harvest", 0.0, {"now": "looking for text"})
    notes: list[str] = []
    domains = [domain for domain in _domains(notes) if domain.pool.files]
    if len(domains) < _FEWEST:
        raise DataError(
            f"This Python holds text of only {len(domains)} domains; {_FEWEST} are needed. Install the packages of "
            "constraints.txt, or give a study of your own."
        )
    available = {domain.name: domain.pool.available(domain.name) for domain in domains}
    budgets = _budgets(available, megabytes * 1e6)
    told: dict[str, Any] = {
        "schema": SCHEMA,
        "megabytes": megabytes,
        "versions": versions(),
        "sources": {},
        "targets": {},
    }
    for number, domain in enumerate(domains):
        texts, skipped = domain.pool.take(domain.name, budgets[domain.name])
        facts = _write(out / "sources" / f"{domain.name}.jsonl", texts, domain.rule, domain.licence)
        told["sources"][domain.name] = facts | {
            "available_bytes": round(available[domain.name]), "skipped_files": skipped
        }  # fmt: skip
        report("harvest", (number + 1) / (len(domains) + 1), {"now": domain.name})
    for name, (texts, rule) in _targets(notes).items():
        told["targets"][name] = _write(out / "targets" / f"{name}.jsonl", texts, rule)
    told["notes"] = notes
    write_json(out / "harvest.json", told)
    report("harvest", 1.0, {})
    found: dict[str, Any] = read_json(out / "harvest.json")  # in the order in which it is found again later
    return found


def _write(path: Path, texts: Sequence[_Text], rule: str, licence: str = "") -> dict[str, Any]:
    write_atomic(path, "".join(text.line() for text in texts))
    stated = licence or licences(text.package for text in texts)
    return {"rule": rule, "licence": stated, "documents": len(texts), "bytes": _bytes(texts)}


def _budgets(available: Mapping[str, float], total: float) -> dict[str, float]:
    """Bytes per domain: the same fraction of each, within least and greatest, so that they add up to ``total``."""

    def at(fraction: float) -> dict[str, float]:
        return {
            name: min(max(fraction * size, min(_LEAST, size)), _GREATEST * total) for name, size in available.items()
        }

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(at(middle).values()) < total else (low, middle)
    return at(high)


def _domains(notes: list[str]) -> Iterator[_Domain]:
    files = installed_files()
    there = f"the standard library of Python and {', '.join(p for p in PACKAGES if any(f.package == p for f in files))}"
    library = _Pool([f for f in files if f.suffix == ".py" and not f.is_test], _code_and_docs)
    tests = _Pool([f for f in files if f.suffix == ".py" and f.is_test], _by_hand("py_tests"))
    headers = _Pool([f for f in files if f.suffix in _CXX and f.package in _CXX_PACKAGES], _by_hand("cxx_headers"))
    sample = f"files of at most {LARGEST // 1000} kB that no generator signed, by smallest SHA-1 of their name"
    yield _Domain(
        "py_code",
        library,
        f"Python code of {there}, without tests and with docstrings of several lines blanked; {sample}.",
    )
    yield _Domain(
        "py_docs",
        library,
        f"Docstrings of at least {_LONG_DOCSTRING} characters in that code, one a document: English technical prose.",
    )
    yield _Domain("py_tests", tests, f"Python test code: test modules of {there}; {sample}.")
    yield _Domain(
        "cxx_headers", headers, f"C++ headers (.h, .hpp, .cuh) of {', '.join(sorted(_CXX_PACKAGES))}; {sample}."
    )
    vectors = [f for f in files if f.suffix == ".decTest" and f.bytes <= _LARGEST_VECTORS]
    if vectors:
        rule = (
            f"Decimal arithmetic test vectors (*.decTest of at most {_LARGEST_VECTORS // 1000} kB) of Python's test "
            "package, by smallest SHA-1 of their name."
        )
        licence = "copyright IBM, as shipped with Python (PSF-2.0)"
        yield _Domain("dectest", _Pool(vectors, _whole("dectest")), rule, licence)
    else:
        notes.append(
            "This Python has no test package: py_tests comes from installed packages alone, and number_tables (data "
            "files of packages) stands where decimal test vectors would."
        )
        tables = _Pool([f for f in files if f.suffix in _TABLES and f.package in PACKAGES], _tables)
        rule = f"Tables of numbers ({', '.join(sorted(_TABLES))} files, three in ten characters digits) of {there}."
        yield _Domain("number_tables", tables, rule)


def _code_and_docs(file: Found, text: str) -> Mapping[str, Sequence[_Text]]:
    if not written_by_hand(text):
        return {}
    code, docstrings = take_apart(text, long=_LONG_DOCSTRING)
    documents = [_Text(doc, f"{file.name}:{name}", file.package) for name, doc in docstrings]
    return {"py_code": [_Text(code, file.name, file.package)], "py_docs": documents}


def _whole(domain: str) -> Callable[[Found, str], Mapping[str, Sequence[_Text]]]:
    return lambda file, text: {domain: [_Text(text, file.name, file.package)]}


def _by_hand(domain: str) -> Callable[[Found, str], Mapping[str, Sequence[_Text]]]:
    return lambda file, text: _whole(domain)(file, text) if written_by_hand(text) else {}


def _tables(file: Found, text: str) -> Mapping[str, Sequence[_Text]]:
    digits = sum(map(str.isdecimal, text))
    return _whole("number_tables")(file, text) if digits > _DIGITS * len(text) else {}


def _targets(notes: list[str]) -> dict[str, tuple[list[_Text], str]]:
    """Target name -> its documents and the rule they were taken by."""
    headers = python_headers()
    rule = "C headers of CPython itself; every one that no generator signed."
    if not headers:
        notes.append(
            "CPython's C headers are not installed here: the target c_headers holds numpy's C headers instead."
        )
        headers = sorted(
            (f for f in installed_files() if f.package == "numpy" and f.suffix == ".h"), key=lambda f: f.name
        )
        rule = "C headers of numpy; every one that no generator signed."
    texts = [
        _Text(text, f.name, f.package) for f in headers if (text := f.read()) is not None and written_by_hand(text)
    ]
    prose = sorted([*_topics(), *_readmes(), *_documentation()], key=lambda text: (text.package, text.path))
    told = (
        "English prose that is no docstring: the topics of Python's language reference (pydoc_data.topics), the README "
        "texts of the listed packages up to their change logs, and documentation files (.rst, .md, IDLE's .txt)."
    )
    return {"c_headers": (texts, rule), "reference_prose": (prose, told)}


def _topics() -> list[_Text]:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return []
    return [_Text(text.strip(), f"pydoc_data/topics:{name}", STANDARD_LIBRARY) for name, text in sorted(topics.items())]


def _readmes() -> list[_Text]:
    return [
        _Text(re.split(r"(?mi)^#*\s*(?:change ?log|release notes|history)\b", text, maxsplit=1)[0], "README", package)
        for package in PACKAGES
        if (text := readme(package)) is not None
    ]


def _documentation() -> list[_Text]:
    """Documentation files, by name; licences and lists of requirements are no prose."""
    chosen = [
        file
        for file in installed_files()
        if file.suffix in {".rst", ".md"} or (file.suffix == ".txt" and file.name.startswith("idlelib/"))
        if not re.search(r"(?i)licen[sc]e|copying|credits", file.name)
    ]
    found = [(file, file.read()) for file in sorted(chosen, key=lambda file: (file.package, file.name))]
    return [_Text(text, file.name, file.package) for file, text in found if text is not None]
