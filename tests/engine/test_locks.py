"""One process at a time in a folder."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from mixwright.core.errors import StudyError
from mixwright.engine.locks import held

HOLDER = """
import sys, time
from mixwright.engine.locks import held
with held([sys.argv[1]]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "a" / ".lock")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_waits_until_the_first_is_killed(tmp_path: Path, holder: subprocess.Popen[bytes]) -> None:
    with (
        pytest.raises(StudyError, match=r"is still at work in .*/a and does not end"),
        held([str(tmp_path / "a/.lock")], 0.2),
    ):
        pytest.fail("two processes in one folder")
    holder.kill()
    begun = time.monotonic()
    with held([str(tmp_path / "a/.lock"), str(tmp_path / "b/.lock")], 30):
        assert time.monotonic() - begun < 30


def test_nothing_to_hold_is_nothing_to_wait_for() -> None:
    with held([]):
        pass
