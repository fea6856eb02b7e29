"""The stream beside other loaders: see ``python -m benchmarks.stream --help``."""
