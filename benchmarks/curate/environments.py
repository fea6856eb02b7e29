"""The peers' environments below ``benchmarks/.envs``: made here if they are not there."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.curate.corpus import ROOT

#: what is installed. Data-Juicer's own dependencies lack aiohttp, without which it does not start, and ray, torch and av, which
#: it otherwise installs in the middle of its first run. TORCH_INDEX names another package index for torch, as for make.
PEERS = {
    "datatrove": ["datatrove[io,processing]==0.10.1", "spacy==3.8.18", "orjson"],
    "juicer": ["py-data-juicer==1.6.1", "aiohttp", "ray", "av"],
    "datasketch": ["datasketch==2.0.0", "pyarrow==26.0.1"],
}
_TORCH = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))


def folder(peer: str) -> Path:
    return ROOT / "benchmarks" / ".envs" / f"curate-{peer}"


def python(peer: str) -> Path:
    """The interpreter of a peer's environment."""
    place = folder(peer)
    ready = place / ".ready"
    if not ready.is_file():
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        pip = [place / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        if peer == "juicer":
            index = ["--index-url", os.environ["TORCH_INDEX"]] if os.environ.get("TORCH_INDEX") else []
            subprocess.run([*pip, *index, _TORCH], check=True)
        subprocess.run([*pip, *PEERS[peer]], check=True)
        ready.touch()
    return place / "bin" / "python"


def versions(peer: str, names: list[str]) -> dict[str, str]:
    """The installed versions of some packages of a peer's environment."""
    code = "import sys\nfrom importlib.metadata import version\nprint(*map(version, sys.argv[1:]))"
    done = subprocess.run([python(peer), "-c", code, *names], capture_output=True, text=True, check=True)
    return dict(zip(names, done.stdout.split(), strict=True))
