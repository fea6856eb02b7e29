"""Kills at random moments: what is lost, what is repeated, what comes out different."""
