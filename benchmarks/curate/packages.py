"""Which Debian packages the corpus is made of, and which file is which kind of text.

Names of Debian 12; a package that the machine's own release does not have is named and left out.
"""

import re

#: documentation: the corpus of the bench
DOCUMENTATION = (
    "python3.11-doc", "linux-doc-6.1", "debian-reference-en", "debian-reference-fr", "debian-reference-de",
    "debian-reference-it", "debian-reference-ja", "debian-handbook", "debian-policy", "developers-reference",
    "installation-guide-amd64", "manpages", "manpages-dev", "manpages-de", "manpages-de-dev", "manpages-fr", "manpages-fr-dev",
    "manpages-es", "manpages-ja", "manpages-ja-dev", "manpages-zh", "manpages-pl", "manpages-pt-br", "perl-doc",
    "postgresql-doc-15", "git-doc", "gnome-user-docs", "libreoffice-help-en-us", "sqlite3-doc", "r-doc-html", "octave-doc",
    "maxima-doc", "gimp-help-en", "rust-doc", "ghc-doc", "python-django-doc", "python-scipy-doc", "python-pandas-doc",
    "apache2-doc", "cmake-doc", "libglib2.0-doc", "emacs-common", "emacs-el", "dict-gcide", "fortunes", "bible-kjv-text",
    "libreoffice-help-ja", "libreoffice-help-zh-cn", "dict-foldoc", "dict-jargon", "docbook-xsl", "golang-1.19-src", "rust-src",
    "libboost1.81-dev", "libpython3.11-stdlib", "perl-modules-5.36",
)  # fmt: skip
#: source code and more documentation: what a corpus of several GB adds
SOURCES = (
    "linux-source-6.1", "gcc-12-source", "glibc-source", "gdb-source", "binutils-source", "openjdk-17-source",
    "openjdk-17-doc", "libboost1.81-doc", "llvm-14-doc", "qtbase5-doc-html", "nodejs-doc", "erlang-doc", "ruby3.1-doc",
    "racket-doc", "petsc3.18-doc", "wx3.2-doc", "libgtk-3-doc", "libgtk-4-doc", "libeigen3-doc", "python-sympy-doc",
    "python-astropy-doc", "sphinx-doc", "gap-doc", "scilab-doc", "dict-wn",
    *(f"libreoffice-help-{language}" for language in (
        "ca", "cs", "da", "de", "el", "es", "et", "eu", "fi", "fr", "gl", "hi", "hu", "id", "it", "ko", "nl", "om", "pl",
        "pt", "pt-br", "ru", "sk", "sl", "sv", "tr", "vi", "zh-tw",
    )),
)  # fmt: skip

#: MB of the corpus per kind of text, as shares of the whole; what one kind lacks the others give
SHARES = {"html": 0.32, "text": 0.24, "code": 0.24, "man": 0.12, "xml": 0.08}
_CODE = (
    r"py|c|h|cc|cpp|cxx|hpp|hh|ipp|java|go|rs|js|ts|r|pl|pm|el|sh|hs|rb|erl|hrl|lua|tcl|s|asm|v|f|f90|ads|adb|m|y|l|awk|ml|"
    r"cs|swift|kt|d|scm|rkt|cmake|mk|dts|dtsi|td|def|inc"
)
_KINDS = (
    ("man", re.compile(r"/man/(?:[^/]+/)?man\d\w*/[^/]+\.gz$")),
    ("html", re.compile(r"\.x?html?(?:\.gz)?$", re.IGNORECASE)),
    ("xml", re.compile(r"\.(?:xml|docbook|dbk|page|xsl|xsd|rng|ui|ent)(?:\.gz)?$", re.IGNORECASE)),
    ("code", re.compile(rf"\.(?:{_CODE})(?:\.gz)?$", re.IGNORECASE)),
    ("text", re.compile(r"(?:\.(?:txt|rst|md|pod|info(?:-\d+)?|texi|org|asciidoc|text|dict)(?:\.gz|\.dz)?|changelog[^/]*\.gz|"
                        r"/README[^/.]*|/NEWS(?:\.gz)?|/fortunes/[^/.]+|/bible\.rawtext(?:\.gz)?)$", re.IGNORECASE)),
)  # fmt: skip


def kind_of(path: str) -> str | None:
    """The kind of text that a file holds, by its name; None: none that is taken."""
    if re.search(r"(?:search_?index|searchindex|genindex|/search/|\.min\.)", path):
        return None
    return next((kind for kind, names in _KINDS if names.search(path)), None)
