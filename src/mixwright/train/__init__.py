"""Batches -> observations: model, loop, sweep, branch."""
