"""What lies on disk: artifacts, documents, tokens, tables of runs, recipes."""
