"""Documents and lines that repeat others: exactly, nearly (verified), by lines, in earlier runs, in meaning."""
