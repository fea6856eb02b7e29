"""Recipes of other tools, rewritten as a study's ``curate`` section."""
