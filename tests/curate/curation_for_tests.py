"""Sources on disk, curation of them in this process, and engines that stop or count."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mixwright.curate.pipeline import Options, curate
from mixwright.engine.local import LocalEngine
from mixwright.engine.task import Engine, Outcome, Session, Task
from mixwright.store.artifact import Draft, Workspace, file_hash
from mixwright.store.documents import SourceOptions

HERE = LocalEngine(1, "threads")


def jsonl(path: Path, texts: Sequence[str]) -> SourceOptions:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return SourceOptions(path.name, licence="CC0-1.0", rule="made up")


def run(
    base: Path,
    sources: Mapping[str, SourceOptions],
    targets: Mapping[str, SourceOptions],
    options: Options,
    *,
    engine: Engine = HERE,
    work: str = "work",
) -> tuple[dict[str, Any], Draft]:
    draft, measured = (Workspace(base / work).draft(stage, "key") for stage in ("curate", "measure"))
    return curate(sources, targets, options, base=base, draft=draft, engine=engine, measured=measured), draft


def measured_of(draft: Draft) -> Path:
    """Where ``run`` measured what it wrote into ``draft``."""
    return draft.path.parent.parent / "measure" / draft.path.name


def both(draft: Draft) -> dict[str, str]:
    """Every file of what ``run`` measured and wrote that sealing would keep."""
    return hashes(draft.path) | {f"measured/{name}": value for name, value in hashes(measured_of(draft)).items()}


def hashes(folder: Path) -> dict[str, str]:
    """Every file that sealing would keep."""
    names = {path: path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {
        name: file_hash(path) for path, name in names.items() if not any(p.startswith(".") for p in name.split("/"))
    }


class Stopping(Engine):
    """Runs only the first tasks it is given, over its whole life, and then is interrupted."""

    def __init__(self, tasks: int) -> None:
        self.left = tasks

    @property
    def slots(self) -> int:
        return 1

    def session(self, on_progress: Callable[[str, float, dict[str, Any]], None] | None = None) -> Session:
        return HERE.session(on_progress)

    def run(
        self, tasks: Sequence[Task], on_progress: Callable[[str, float, dict[str, Any]], None] | None = None
    ) -> Iterator[Outcome]:
        for task in tasks:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            yield from HERE.run([task], on_progress)


class Counting(Stopping):
    """Runs everything and remembers the names."""

    def __init__(self) -> None:
        super().__init__(10**6)
        self.names: list[str] = []

    def run(
        self, tasks: Sequence[Task], on_progress: Callable[[str, float, dict[str, Any]], None] | None = None
    ) -> Iterator[Outcome]:
        self.names += [task.name for task in tasks]
        return super().run(tasks, on_progress)


class Processes(Stopping):
    """Worker processes, also where curation would take threads."""

    def __init__(self, workers: int) -> None:
        super().__init__(10**6)
        self.engine = LocalEngine(workers)

    def run(
        self, tasks: Sequence[Task], on_progress: Callable[[str, float, dict[str, Any]], None] | None = None
    ) -> Iterator[Outcome]:
        return self.engine.run(tasks, on_progress)
