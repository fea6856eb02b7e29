from __future__ import annotations

import pickle
import resource

import pytest
import torch

from mixwright.core.errors import DataError, ResourceError
from mixwright.train import checkpoint

TENSORS = {"model": {"w": torch.arange(6.0).view(2, 3)}, "optimizer": {"exp_avg.w": torch.ones(2, 3) / 3}}


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (print, ("this must never be printed",))


def test_what_was_saved_is_loaded(tmp_path) -> None:
    checkpoint.save(tmp_path / "c", TENSORS, {"step": 3, "rate": 0.1})
    tensors, state = checkpoint.load(tmp_path / "c")
    assert torch.equal(tensors["model"]["w"], TENSORS["model"]["w"])
    assert torch.equal(tensors["optimizer"]["exp_avg.w"], TENSORS["optimizer"]["exp_avg.w"])
    assert (state["step"], state["rate"]) == (3, 0.1)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_saving_again_replaces_it(tmp_path) -> None:
    checkpoint.save(tmp_path / "c", TENSORS, {"step": 3})
    checkpoint.save(tmp_path / "c", TENSORS, {"step": 4})
    assert checkpoint.load(tmp_path / "c")[1]["step"] == 4


def test_a_save_that_fails_leaves_the_last_good_one(tmp_path, monkeypatch) -> None:
    checkpoint.save(tmp_path / "c", TENSORS, {"step": 3})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_sync", full)
    with pytest.raises(ResourceError, match="No space left while writing"):
        checkpoint.save(tmp_path / "c", TENSORS, {"step": 4})
    assert checkpoint.load(tmp_path / "c")[1]["step"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_a_pickle_in_disguise_is_refused_unread(tmp_path, capsys, name: str) -> None:
    checkpoint.save(tmp_path / "c", TENSORS, {})
    (tmp_path / "c" / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="not a safetensors file"):
        checkpoint.load(tmp_path / "c")
    torch.save(TENSORS, tmp_path / "c" / name)
    with pytest.raises(DataError, match="not a safetensors file"):
        checkpoint.load(tmp_path / "c")
    assert capsys.readouterr().out == ""


def test_an_open_pickle_is_refused_unread(tmp_path, capsys) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "checkpoint.pt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=r"checkpoint\.pt, a pickled checkpoint"):
        checkpoint.load(folder)
    assert capsys.readouterr().out == ""


def test_damage_is_told(tmp_path) -> None:
    checkpoint.save(tmp_path / "c", TENSORS, {})
    whole = (tmp_path / "c" / "model.safetensors").read_bytes()
    for cut in (0, 7, 40, len(whole) - 4):
        (tmp_path / "c" / "model.safetensors").write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"model\.safetensors"):
            checkpoint.load(tmp_path / "c")
    (tmp_path / "c" / "model.safetensors").unlink()
    with pytest.raises(DataError, match="missing"):
        checkpoint.load(tmp_path / "c")


def test_no_checkpoint_and_a_newer_one_are_told(tmp_path) -> None:
    with pytest.raises(DataError, match="no checkpoint"):
        checkpoint.load(tmp_path)
    checkpoint.save(tmp_path / "c", TENSORS, {"schema": "mixwright/checkpoint/9"})
    with pytest.raises(DataError, match="checkpoint/9"):
        checkpoint.load(tmp_path / "c")


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_flipped_bit_is_found_wherever_it_is(tmp_path, name: str) -> None:
    checkpoint.save(tmp_path / "c", TENSORS, {"step": 3, "losses": [1.25, 2.5]})
    path = tmp_path / "c" / name
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        broken = bytearray(whole)
        broken[at] ^= 1 << (at % 8)
        path.write_bytes(bytes(broken))
        with pytest.raises(
            DataError, match=r"c(/\S+)? (has changed|is damaged|is in the form|is not a safetensors|holds no)"
        ):
            checkpoint.load(tmp_path / "c")
    path.write_bytes(whole)
    assert checkpoint.load(tmp_path / "c")[1]["losses"] == [1.25, 2.5]


def test_a_disk_that_is_full_is_told_and_leaves_the_last_good_one(tmp_path) -> None:
    """The system refuses to write more than some bytes, as it does on a full disk."""
    large = {part: {"w": torch.zeros(40_000)} for part in ("model", "optimizer")}
    checkpoint.save(tmp_path / "c", TENSORS, {"step": 3})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(ResourceError, match=r"No space left while writing .*/c\. Finished work is kept"):
            checkpoint.save(tmp_path / "c", large, {"step": 4})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert checkpoint.load(tmp_path / "c")[1]["step"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    checkpoint.save(tmp_path / "c", large, {"step": 4})
    assert checkpoint.load(tmp_path / "c")[1]["step"] == 4
