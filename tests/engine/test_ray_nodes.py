"""A Ray cluster of two nodes on this machine: one of them dies, its task is done on the other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mixwright.engine.ray import RayEngine
from mixwright.engine.task import Task

ray = pytest.importorskip("ray")
HERE = str(Path(__file__).parent)
SMALL = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", HERE)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args=SMALL)
    cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


@pytest.mark.long
def test_what_a_dead_node_was_at_is_done_on_another(cluster: Any, tmp_path: Path) -> None:
    other = next(node for node in cluster.list_all_nodes() if node is not cluster.head_node)
    raylet = other.all_processes["raylet"][0].process.pid
    killed: list[str] = []

    def kill_the_other_node(name: str, fraction: float, facts: dict[str, Any]) -> None:
        if not killed and _parent(_parent(facts["pid"])) == raylet:
            killed.append(name)
            cluster.remove_node(other, allow_graceful=False)

    engine = RayEngine(cluster.address, folder=tmp_path)
    assert engine.slots == 2
    given = {name: {"path": str(tmp_path / name), "seconds": 4.0} for name in ("a", "b")}
    tasks = [
        Task(name, "tasks_for_tests:stamp", arguments, locks=(f"{arguments['path']}.lock",))
        for name, arguments in given.items()
    ]
    outcomes = {outcome.task.name: outcome for outcome in engine.run(tasks, kill_the_other_node)}
    assert killed, "no task was on the other node"
    assert {name: outcome.error for name, outcome in outcomes.items()} == {"a": None, "b": None}
