"""Kernels read no byte beside their data, whatever the bytes are, and several threads may run them at once."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mixwright.curate.counts import NAMES
from mixwright.curate.kernels import find_words
from mixwright.curate.texts import Texts

#: data between two pages that must not be touched: whoever reads or writes there is ended by the system
GUARDED = """
import ctypes, mmap, sys
import numpy as np
from mixwright.curate.texts import Texts

PAGE = mmap.PAGESIZE
memory = mmap.mmap(-1, 3 * PAGE)
whole = np.frombuffer(memory, dtype=np.uint8)
libc = ctypes.CDLL(None, use_errno=True)
for page in (0, 2):
    assert libc.mprotect(ctypes.c_void_p(whole.ctypes.data + page * PAGE), ctypes.c_size_t(PAGE), 0) == 0
inner = whole[PAGE : 2 * PAGE]
rng = np.random.default_rng(7)
seeds = ["a b. ", "the cat\\n", "日本。", "é ", "...", "x" * 70, "Привет, мир.\\n\\n", "{[12] javascript", "\\n", "terms of use "]
read = 0
for size in [*range(0, 150), 191, 192, 193, 4095, 4096]:
    for kind in range(3):
        if kind == 0:
            content = rng.integers(0, 256, size).astype(np.uint8)
        else:
            parts = "".join(seeds[at] for at in rng.integers(0, len(seeds), size // 3 + 4)).encode()
            content = np.frombuffer(parts, dtype=np.uint8)[kind - 1 :][:size]
        for place in (inner[: len(content)], inner[PAGE - len(content) :]):
            place[:] = content
            cut = int(rng.integers(0, len(content) + 1))
            texts = Texts([])
            texts.data, texts.offsets = place, np.array([0, 0, cut, len(content)])
            other, third = Texts([]), Texts([])
            other.data, other.offsets = third.data, third.offsets = place, texts.offsets
            assert other.words.first[-1] == third.word_hashes[0][-1] == texts.counted("words").sum()
            read += 1
print(read)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="pages are guarded by mprotect")
def test_no_byte_beside_the_data_is_read() -> None:
    done = subprocess.run([sys.executable, "-c", GUARDED], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr[-2000:]}"
    assert int(done.stdout) == 155 * 3 * 2


def some_texts(seed: int, number: int) -> list[str]:
    rng = np.random.default_rng(seed)
    parts = ["the cat ", "sat on. ", "Привет ", "日本語。", "\n", "\n\n", "a line of it all.\n", "x" * 80, "é", " ... "]
    return ["".join(parts[at] for at in rng.integers(0, len(parts), rng.integers(0, 400))) for _ in range(number)]


def test_four_threads_count_what_one_does() -> None:
    batches = [some_texts(seed, 20) for seed in range(24)]
    alone = [Texts(batch).counts for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda batch: Texts(batch).counts, batches * 4))
        words = list(threads.map(lambda batch: Texts(batch).words, batches * 4))
    assert all((counts == alone[at % 24]).all() for at, counts in enumerate(together))
    for at, found in enumerate(words):
        assert np.diff(found.first).tolist() == alone[at % 24][:, NAMES.index("words")].tolist()


def test_slices_of_arrow_are_counted_where_they_lie() -> None:
    pa = pytest.importorskip("pyarrow")
    held = some_texts(3, 30)
    whole = pa.array(held, pa.large_string())
    for start, stop in ((0, 30), (1, 30), (7, 8), (29, 30), (5, 5), (30, 30)):
        part = Texts(whole.slice(start, stop - start))
        assert np.shares_memory(part.data, np.frombuffer(whole.buffers()[2], np.uint8)) == (stop > start)
        assert part.counts.tolist() == Texts(held[start:stop]).counts.tolist()
    short = Texts(pa.array(held, pa.string()).slice(3, 9))
    assert short.counts.tolist() == Texts(held[3:12]).counts.tolist()


@pytest.mark.parametrize(
    ("piece", "words"), [("\n", 0), ("ab ", 1), ("日", 1), ("a. B ", 2), ("\n\n.\n", 0), ("one line, ", 2)]
)
def test_a_text_of_one_thing(piece: str, words: int) -> None:
    times = (3 << 20) // len(piece.encode())
    counted = Texts([piece * times]).counted
    assert counted("chars").tolist() == [len(piece) * times]
    assert counted("words").tolist() == [words * times]
    assert counted("newlines").tolist() == [piece.count("\n") * times]
    lines = piece.split("\n")
    assert counted("longest_line").tolist() == [max(map(len, lines)) if len(lines) > 1 else len(piece) * times]


def test_one_word_of_many_bytes() -> None:
    texts = Texts(["x" * (3 << 20)])
    assert texts.counted("longest_piece").tolist() == [3 << 20]
    assert (texts.words.start.tolist(), texts.words.stop.tolist()) == ([0], [3 << 20])


@pytest.mark.parametrize("seed", range(3))
def test_words_alone_are_those_found_with_counts(seed: int) -> None:
    texts = Texts(some_texts(seed, 40))
    assert texts.counts is not None
    first, _, _, hashes = find_words(texts.data, texts.offsets)
    alone = Texts(some_texts(seed, 40)).word_hashes
    for found in (texts.word_hashes, alone):
        assert np.array_equal(found[0], first)
        assert np.array_equal(found[1], hashes)
