"""Checkpoints: a folder with ``model.safetensors``, ``optimizer.safetensors`` and ``state.json``, whole or not there.

Tensors lie in safetensors files, which hold numbers and nothing that could run; pickled checkpoints are refused. The
folder is written aside and renamed, so a process killed at any moment, or a disk that is full, leaves the last good one.
``state.json`` holds the checksums of the tensors' files: a bit that flips on disk is found when they are loaded.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mixwright.core.errors import DataError, disk_error
from mixwright.store.artifact import content_key, file_hash, to_json

SCHEMA = "mixwright/checkpoint/2"
_PARTS = ("model", "optimizer")
_STATE = "state.json"
#: The entry of ``state.json`` that holds the hash of all others.
_CHECK = "checksum"
_PICKLES = ("*.pt", "*.pth", "*.bin", "*.ckpt", "*.pkl", "*.pickle")


class Damaged(DataError):
    """A checkpoint that is not whole, or not as it was written."""


def save(folder: Path, tensors: Mapping[str, Mapping[str, Any]], state: Mapping[str, Any]) -> None:
    """Write ``tensors`` (``model`` and ``optimizer``: name -> tensor) and ``state`` (JSON values) as ``folder``.

    An older checkpoint there is replaced. Cost: the bytes of the tensors, synced to disk and hashed. Raises ResourceError
    when the disk is full; what was there before is as it was.
    """
    from safetensors.torch import save_file

    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        hashes = {}
        for part in _PARTS:
            path = aside / f"{part}.safetensors"
            save_file({name: tensor.detach().contiguous() for name, tensor in tensors[part].items()}, path)
            _sync(path)
            hashes[path.name] = file_hash(path)
        kept = json.loads(to_json({"schema": SCHEMA, "files": hashes, **state}))
        (aside / _STATE).write_text(to_json({**kept, _CHECK: content_key(kept)}) + "\n", "utf-8")
        _sync(aside / _STATE)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
        _sync(folder.parent)
    except Exception as error:
        full = disk_error(error, folder)
        if full is not None:
            raise full from error
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def load(folder: Path, parts: Sequence[str] = _PARTS) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The tensors by part, and the state. DataError for a folder that is no checkpoint, damaged, newer, or pickled."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    pickled = [path.name for pattern in _PICKLES for path in sorted(folder.glob(pattern))]
    if pickled:
        raise DataError(
            f"{folder} holds {pickled[0]}, a pickled checkpoint: loading it could run any code inside it, so it is "
            "refused. Convert it to safetensors where you trust it."
        )
    if not (folder / _STATE).is_file():
        raise Damaged(f"There is no checkpoint in {folder}: it lacks {_STATE}.")
    state = _state(folder / _STATE)
    if state.get("schema") != SCHEMA:
        raise DataError(f"{folder} is in the form {state.get('schema')!r}; this version reads {SCHEMA!r}.")
    if state.pop(_CHECK, None) != content_key(state):
        raise Damaged(
            f"{folder / _STATE} has changed since it was written: its checksum is another. Remove {folder} and train again."
        )
    tensors = {}
    for part in parts:
        path = folder / f"{part}.safetensors"
        _check_safe(path)
        if file_hash(path) != state["files"].get(path.name):
            raise Damaged(
                f"{path} has changed since it was written: its checksum is another. Remove {folder} and train again."
            )
        try:
            tensors[part] = load_file(path)
        except (SafetensorError, OSError) as error:
            raise Damaged(f"{path} is damaged ({error}). Remove {folder} and train again.") from error
    return tensors, state


def _state(path: Path) -> dict[str, Any]:
    """What ``state.json`` holds; Damaged when that is no JSON object."""
    try:
        state = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise Damaged(f"{path} is damaged ({error}). Remove {path.parent} and train again.") from error
    if not isinstance(state, dict):
        raise Damaged(f"{path} holds no JSON object. Remove {path.parent} and train again.")
    return state


def _check_safe(path: Path) -> None:
    """DataError unless the file begins as safetensors does: the length of a JSON header, then the header."""
    if not path.is_file():
        raise Damaged(f"{path} is missing: the checkpoint is not whole. Remove its folder and train again.")
    with path.open("rb") as stream:
        head = stream.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        header = stream.read(length) if length <= path.stat().st_size - 8 else b""
    try:
        good = isinstance(json.loads(header), dict)
    except ValueError:
        good = False
    if not good:
        raise Damaged(
            f"{path} is not a safetensors file (a pickled or cut one?), so it is refused: only safetensors can be loaded "
            "without running what is inside. Remove the checkpoint and train again."
        )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
