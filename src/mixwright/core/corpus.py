"""What supply exists: domains, and the corpus that fixes their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture


@dataclass(frozen=True)
class Domain:
    """A named, disjoint slice of text with a finite supply of unique tokens.

    ``tokens`` counts training tokens (the held-out part is not among them), ``bytes`` their UTF-8 text,
    ``documents`` the documents they come from.
    """

    name: str
    tokens: int
    bytes: int = 0
    documents: int = 0

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or "\x00" in self.name or self.name in {".", ".."}:
            raise DataError(
                f"A domain's name must be non-empty and hold no '/' or NUL, since it names a folder; got {self.name!r}."
            )
        for field in ("tokens", "bytes", "documents"):
            if getattr(self, field) < 0:
                raise DataError(f"Domain {self.name}: {field} must not be negative; got {getattr(self, field)}.")


@dataclass(frozen=True)
class Corpus:
    """An ordered tuple of domains after tokenizing; it fixes the D axis of everything that follows.

    ``tokenizer`` is the hash of the tokenizer file, ``vocab`` its number of ids, ``fingerprint`` that of the
    token files.
    """

    domains: tuple[Domain, ...]
    tokenizer: str = ""
    vocab: int = 0
    fingerprint: str = ""

    def __post_init__(self) -> None:
        names = [domain.name for domain in self.domains]
        if not names:
            raise DataError("A corpus needs at least one domain; it was given none.")
        if len(set(names)) != len(names):
            raise DataError(
                f"Domain names must differ; {sorted({n for n in names if names.count(n) > 1})} stand twice."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The domains' names, in the order of the D axis."""
        return tuple(domain.name for domain in self.domains)

    @property
    def supply(self) -> NDArray[np.float64]:
        """Unique training tokens per domain, ``(D,)``."""
        return np.array([domain.tokens for domain in self.domains], dtype=np.float64)

    def natural(self) -> Mixture:
        """The mixture in proportion to supply: one pass over everything."""
        return Mixture.normalized(self.names, self.supply)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"domains": [asdict(domain) for domain in self.domains]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Corpus:
        """The inverse of ``to_dict``."""
        return cls(**{**values, "domains": tuple(Domain(**domain) for domain in values["domains"])})
