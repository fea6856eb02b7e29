"""One signal a file: it measures numbers for every document and never decides."""
