"""Places: paths and URLs alike, and what cannot be read is said with its place."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mixwright.core.errors import DataError, StudyError
from mixwright.store.place import Place


@pytest.fixture(params=["path", "file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "a").write_bytes(b"0123456789")
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / "inner").mkdir()
    if request.param != "memory":
        yield Place.of(tmp_path if request.param == "path" else f"file://{tmp_path}")
        return
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.put(str(tmp_path), "/place", recursive=True)
    yield Place.of("memory://place/")
    memory.rm("/place", recursive=True)


def test_reading(folder: Place) -> None:
    file = folder / "a"
    assert (file.name, file.beside("b"), file.is_file(), folder.is_file()) == ("a", folder / "b", True, False)
    assert (file.size(), file.read(), file.read(3), file.read(2, 5), file.read(8, 99)) == (
        10, b"0123456789", b"3456789", b"234", b"89",
    )  # fmt: skip
    assert list(file.pieces(4)) == [b"0123", b"4567", b"89"]
    assert list((folder / "b").pieces()) == []
    assert folder.sizes() == {"a": 10, "b": 0}
    assert file.hash() == "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882"
    assert file.changed() is not None
    assert not (folder / "c").is_file()
    for call in ((folder / "c").read, (folder / "c").size, (folder / "c").changed, (folder / "c").sizes):
        with pytest.raises(DataError, match=r"There is no .*c\. Correct the path"):
            call()


def test_what_has_no_file_system() -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(StudyError, match=r"odd://x/y cannot be opened \(.*odd"):
        Place.of("odd://x/y").read()


def test_what_may_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read \(.*Is a directory"):
        Place.of(tmp_path).read()
