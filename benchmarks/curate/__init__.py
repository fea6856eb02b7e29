"""Curation beside datatrove, Data-Juicer and datasketch: `make bench-curate`."""
