"""Text -> better text: measure, decide, dedup, keep a ledger."""
