"""Tokens -> batches: the order, the loader."""
