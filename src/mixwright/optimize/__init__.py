"""Fits -> recipe: the best mixture, and which runs to train next."""
