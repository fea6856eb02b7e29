"""The peers' environments below ``benchmarks/.envs``: made here if they are not there."""

import subprocess
import sys
from pathlib import Path

from benchmarks.curate.corpus import ROOT

#: what is installed, in the order of the installs. Data-Juicer's own dependencies lack aiohttp and uv, without which
#: its command does not start or installs packages at run time.
PEERS = {
    "datatrove": ["datatrove[io,processing]==0.10.1", "spacy==3.8.18", "orjson"],
    "juicer": ["py-data-juicer==1.6.1", "aiohttp"],
    "datasketch": ["datasketch==2.0.0", "pyarrow==26.0.1"],
}


def folder(peer: str) -> Path:
    return ROOT / "benchmarks" / ".envs" / f"curate-{peer}"


def python(peer: str) -> Path:
    """The interpreter of a peer's environment."""
    place = folder(peer)
    ready = place / ".ready"
    if not ready.is_file():
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        pip = [place / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        subprocess.run([*pip, *PEERS[peer]], check=True)
        ready.touch()
    return place / "bin" / "python"


def versions(peer: str, names: list[str]) -> dict[str, str]:
    """The installed versions of some packages of a peer's environment."""
    code = "import sys\nfrom importlib.metadata import version\nprint(*map(version, sys.argv[1:]))"
    done = subprocess.run([python(peer), "-c", code, *names], capture_output=True, text=True, check=True)
    return dict(zip(names, done.stdout.split(), strict=True))
