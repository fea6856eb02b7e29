"""Any bytes as a file of documents: no crash, no lost row. See ``fuzz_readers.py`` for what that means per format."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from fuzz_readers import a_parquet_file, changed, check_jsonl, check_parquet, check_stream, check_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

QUICK = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
content = st.lists(
    st.one_of(st.binary(max_size=30), st.sampled_from([b'{"text":"x","n":[1]}', b"", b" ", b'{"text":1}', b"x" * 70_000])),
    max_size=6,
).map(b"\n".join)  # fmt: skip


@QUICK
@given(content)
def test_lines(tmp_path: Path, content: bytes) -> None:
    check_jsonl(tmp_path, content)
    check_text(tmp_path, content)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@QUICK
@given(content=content, keep=st.floats(0, 1), edits=st.binary(max_size=6))
def test_streams(tmp_path: Path, suffix: str, content: bytes, keep: float, edits: bytes) -> None:
    whole = gzip.compress(content) if suffix == ".gz" else zstandard.ZstdCompressor().compress(content)
    check_stream(tmp_path, changed(whole[: max(1, int(len(whole) * keep))], edits), suffix)
    check_stream(tmp_path, content, suffix)


@QUICK
@given(number=st.integers(0, 5), edits=st.binary(max_size=12), keep=st.floats(0.5, 1))
def test_parquet(tmp_path: Path, number: int, edits: bytes, keep: float) -> None:
    whole = a_parquet_file(tmp_path, number)
    check_parquet(tmp_path, changed(whole, edits))
    check_parquet(tmp_path, whole[: int(len(whole) * keep)])


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
def test_by_atheris(seed: int, tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    script = Path(__file__).with_name("fuzz_readers.py")
    done = subprocess.run(
        [sys.executable, str(script), "-runs=5000", f"-seed={seed}", "-rss_limit_mb=4096", f"-artifact_prefix={tmp_path}/"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
