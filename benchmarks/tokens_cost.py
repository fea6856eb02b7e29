"""What tokenizing costs: megabytes and tokens a second, memory, and what a kill -9 loses.

    python benchmarks/tokens_cost.py                 200 MB of this environment's Python files, 1 and 2 workers, 10 kills
    python benchmarks/tokens_cost.py --megabytes 50 --kills 0
    python benchmarks/tokens_cost.py --megabytes 0

The corpus is JSONL, one installed ``.py`` file a row. Memory is the peak of the largest process. Kills are tried on 20 MB
of it in shards of 1 MB: SIGKILL for the parent (its workers die with it) at a random moment, then the same command
again; a finished shard must stay the file it is, and the end must be byte for byte that of a run in one go.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_ONE = """
import json, resource, sys, time
from pathlib import Path
from mixwright.engine.local import LocalEngine
from mixwright.text.files import tokenize_files
files, out, tokenizer, workers, size = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
begun = time.perf_counter()
made = tokenize_files([files], out, tokenizer=tokenizer, engine=LocalEngine(workers), shard_bytes=size)
seconds = time.perf_counter() - begun
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps({"seconds": seconds, "cpu": sum(u.ru_utime + u.ru_stime for u in used), "tokens": made.tokens,
    "text_bytes": made.text_bytes, "shards": made.shards, "peak": max(u.ru_maxrss for u in used) * 1024}))
"""


def texts(most: int) -> Iterator[str]:
    """Installed Python files in the order of their paths, ``most`` bytes of them."""
    held = 0
    for root in sorted(
        {Path(path) for path in sys.path if path.endswith(("site-packages", f"python{sys.version[:4]}"))}
    ):
        for path in sorted(root.rglob("*.py")):
            if held >= most:
                return
            try:
                text = path.read_text("utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            held += len(text.encode())
            yield text


def corpus(folder: Path, most: int) -> tuple[Path, Path]:
    """The JSONL file, and a tokenizer of 32,768 ids trained on its first 10 MB."""
    from mixwright.text.tokenizer import train

    file, tokenizer = folder / "text.jsonl", folder / "tokenizer.json"
    with file.open("w", encoding="utf-8") as stream:
        for text in texts(most):
            stream.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    train(texts(10_000_000), 32_768, tokenizer)
    return file, tokenizer


def command(file: Path, out: Path, tokenizer: Path, workers: int, shard_bytes: int = 48 << 20) -> list[str]:
    """One tokenizing in a process of its own."""
    return [sys.executable, "-c", _ONE, str(file), str(out), str(tokenizer), str(workers), str(shard_bytes)]


def measure(file: Path, out: Path, tokenizer: Path, workers: int) -> dict[str, float]:
    """Speed and memory with so many workers."""
    done = subprocess.run(command(file, out, tokenizer, workers), capture_output=True, text=True, check=True)
    return {"workers": workers, **json.loads(done.stdout)}


def kill(file: Path, out: Path, tokenizer: Path, kills: int) -> str:
    """Kill it ``kills`` times at random moments of its life, then let it end; what became of the shards."""
    whole, small = out.with_name("whole"), 1_000_000
    begun = time.monotonic()
    subprocess.run(command(file, whole, tokenizer, 2, small), stdout=subprocess.DEVNULL, check=True)
    seconds = time.monotonic() - begun
    moments, kept, lost, seen = random.Random(0), {}, 0, []
    for _ in range(kills):
        process = subprocess.Popen(command(file, out, tokenizer, 2, small), stdout=subprocess.DEVNULL)
        try:
            process.wait(moments.random() * seconds / 4)
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            time.sleep(0.5)
        now = {path.name: path.stat().st_ino for path in out.glob("*.bin") if (out / f".{path.stem}.json").is_file()}
        lost += sum(now.get(name) != inode for name, inode in kept.items())
        kept = now
        seen.append(len(kept))
    subprocess.run(command(file, out, tokenizer, 2, small), stdout=subprocess.DEVNULL, check=True)
    lost += sum((out / name).stat().st_ino != inode for name, inode in kept.items())
    count = len(list(whole.glob("*.bin")))
    return (
        f"{len(seen)} kills, {seen} of {count} shards finished at each; finished shards lost or encoded again: {lost}; "
        f"same bytes as in one go: {same(whole, out)}"
    )


def same(one: Path, two: Path) -> bool:
    """Whether two stores have the same files with the same bytes."""
    names = [sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) for folder in (one, two)]
    return names[0] == names[1] and all((one / name).read_bytes() == (two / name).read_bytes() for name in names[0])


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--megabytes", type=int, default=200)
    ask.add_argument("--kills", type=int, default=10)
    given = ask.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.megabytes:
            file, tokenizer = corpus(folder, given.megabytes * 1_000_000)
            for workers in (1, 2):
                row = measure(file, folder / f"workers-{workers}", tokenizer, workers)
                print(
                    f"{workers} workers: {row['text_bytes'] / 1e6:.0f} MB, {row['tokens'] / 1e6:.1f}M tokens in "
                    f"{row['shards']} shards; {row['seconds']:.0f} s, {row['text_bytes'] / 1e6 / row['seconds']:.2f} MB/s, "
                    f"{row['text_bytes'] / 1e6 / row['cpu']:.2f} MB/CPU-s, {row['tokens'] / 1e6 / row['cpu']:.2f}M tokens/CPU-s, "
                    f"peak {row['peak'] / 1e6:.0f} MB",
                    flush=True,
                )
            print(f"same bytes with 1 and 2 workers: {same(folder / 'workers-1', folder / 'workers-2')}", flush=True)
        if given.kills:
            file, tokenizer = corpus(folder, 20_000_000)
            print(kill(file, folder / "killed", tokenizer, given.kills))


if __name__ == "__main__":
    main()
