"""Every plug-in passes its family's kit; a plug-in that breaks its promise does not."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from mixwright.core.find import find, names
from mixwright.core.observation import Runs
from mixwright.curate.signal import Floats, Signal, Texts
from mixwright.testing import check_exporter, check_law, check_signal, check_trainer, made_up_runs


@pytest.mark.parametrize("name", [name for name in names("signals") if find("signals", name).always])
def test_signals(name: str) -> None:
    check_signal(find("signals", name)())  # those that must be asked for are checked where they are tested


@pytest.mark.parametrize("name", names("laws"))
def test_laws(name: str) -> None:
    if name == "lightgbm":
        pytest.importorskip("lightgbm")
    check_law(find("laws", name)(), two_sizes() if name == "transfer" else None)


def two_sizes() -> Runs:
    """The kit's runs, a third of them of a larger model."""
    runs = made_up_runs()
    large = np.arange(len(runs)) % 3 == 0
    return replace(runs, tokens=np.full(len(runs), 1e9), params=np.where(large, 1e8, 1e7))


@pytest.mark.parametrize("name", names("export"))
def test_exporters(name: str) -> None:
    check_exporter(find("export", name)())


def test_the_toy_trainer(tmp_path: Path) -> None:
    check_trainer(find("trainers", "toy")(), tmp_path)


@dataclass(frozen=True)
class Neighbourly(Signal):
    """Breaks the promise that a text is measured alone."""

    columns = ("x",)

    def measure(self, texts: Texts) -> dict[str, Floats]:
        return {"x": np.full(len(texts), float(texts.lengths.sum()))}


def test_a_kit_catches_a_broken_promise() -> None:
    with pytest.raises(AssertionError, match="depends on its neighbours"):
        check_signal(Neighbourly())
