"""Random streams, errors, and the folder that is the registry."""

import errno

import numpy as np
import pytest

from mixwright.core import errors
from mixwright.core.find import FAMILIES, camel, find, names
from mixwright.core.rng import derive_seed, rng


def test_streams_are_named_independent_and_the_same_everywhere() -> None:
    assert rng(7, "fit", "a").random() == rng(7, "fit", "a").random()
    assert rng(7, "fit", "a").random() != rng(7, "fit", "b").random()
    assert derive_seed(1, "a", "b") != derive_seed(1, "ab")
    assert derive_seed(0, "demo") == 7551286263063308571
    draws = np.array([rng(seed, "x").random() for seed in range(500)])
    assert abs(draws.mean() - 0.5) < 0.05


def test_errors_form_one_tree_with_exit_codes() -> None:
    codes = {cls.__name__: cls.exit_code for cls in errors.MixwrightError.__subclasses__()}
    assert codes == {
        "StudyError": 2, "DataError": 3, "RunsFailedError": 4, "ResourceError": 5, "Interrupted": 130,
    }  # fmt: skip


def test_a_full_disk_is_recognized_in_every_form() -> None:
    assert isinstance(errors.disk_error(OSError(errno.ENOSPC, "full"), "x"), errors.ResourceError)
    assert isinstance(errors.disk_error(RuntimeError("write: No space left on device"), "x"), errors.ResourceError)
    assert errors.disk_error(OSError(errno.ENOENT, "gone"), "x") is None


def test_a_missing_package_names_its_extra() -> None:
    sentence = errors.missing_extra(ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"))
    assert "pip install 'mixwright[train]'" in str(sentence)
    assert errors.missing_extra(ModuleNotFoundError("No module named 'mine'", name="mine")) is None


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_plug_in_file_holds_its_class(family: str) -> None:
    assert names(family)
    for name in names(family):
        plug_in = find(family, name)
        assert plug_in.__name__ == camel(name)
        assert plug_in.__doc__


def test_an_unknown_plug_in_names_the_nearest_and_all() -> None:
    with pytest.raises(errors.StudyError, match=r"'exponental'.*Did you mean 'exponential'.*additive"):
        find("laws", "exponental")
    with pytest.raises(errors.StudyError, match=r"package\.module:Class"):
        find("laws", "no.such:Thing")
    assert find("laws", "collections:OrderedDict").__name__ == "OrderedDict"
