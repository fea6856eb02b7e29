"""Observations -> fits: functional forms, how they are fitted and validated."""
