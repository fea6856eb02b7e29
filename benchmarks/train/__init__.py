"""Training beside ``transformers.Trainer``, and many proxies at once beside one by one: ``make bench-train``."""
