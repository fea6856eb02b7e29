"""How many URLs, e-mail addresses, phone numbers, IP addresses and key-like secrets a text holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixwright.curate.signal import Floats, Signal, Texts, ratio


@dataclass(frozen=True)
class ContactsAndSecrets(Signal):
    """``urls``, ``emails``, ``phones``, ``ips``, ``secrets``: how many; ``url_ratio``: characters in URLs / characters.

    A URL is letters, ``://`` and what may stand in one (RFC 3986; ASCII, no brackets or quotes), or begins with ``www.``;
    marks that close the sentence around it are not part of it. An e-mail address has a domain of two labels or more, the
    last of letters (RFC 5321 without quoted names). A phone number is ``+`` and 8 to 15 digits (ITU-T E.164) with at most
    two of ``space . - ( )`` between them, or the North American ``555-323-4567`` in its usual spellings. IP addresses are
    IPv4, and IPv6 in full or with ``::`` and a group of three digits or more that tells it from ``a::b``. Secrets are
    tokens with the prefixes of AWS, GitHub, GitLab, Slack, Stripe, Google, Hugging Face and npm, JSON web tokens, private
    keys in PEM, and quoted values assigned to a name like ``api_key`` with an entropy of at least 3.5 bits a byte (rules of
    gitleaks 8). None lies over another.

    Cost: 0.5 ms/MB, 2 GB/s, without matches; 1.4 ms/MB in HTML manuals with a URL in every 3 kB.
    """

    columns = ("urls", "url_ratio", "emails", "phones", "ips", "secrets")
    always = False

    def measure(self, texts: Texts) -> dict[str, Floats]:
        from mixwright.curate import content_kernels as kernels

        kinds = {"urls": kernels.URL, "emails": kernels.EMAIL, "phones": kernels.PHONE, "ips": kernels.IP}
        kinds["secrets"] = kernels.SECRET
        text, kind, start, stop = kernels.find_spans(texts.data, texts.offsets, sum(kinds.values()))
        counted = {
            column: np.bincount(text[kind == bit], minlength=len(texts)).astype(np.float64)
            for column, bit in kinds.items()
        }
        urls = kind == kernels.URL
        covered = np.bincount(text[urls], (stop - start)[urls], minlength=len(texts)).astype(np.int64)
        return counted | {"url_ratio": ratio(covered, texts.counted("chars"))}
