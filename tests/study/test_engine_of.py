from pathlib import Path

from mixwright.engine.local import LocalEngine
from mixwright.engine.ray import RayEngine
from mixwright.study.config import EngineOptions
from mixwright.study.flow import engine_of


def test_the_study_says_where_tasks_run() -> None:
    work = Path("work")
    assert engine_of(EngineOptions(workers=3), work) == LocalEngine(3)
    wanted = EngineOptions("ray", "cluster:6379", 8)
    assert engine_of(wanted, work) == RayEngine("cluster:6379", 8, work), "nodes must see the folder that files lie in"
