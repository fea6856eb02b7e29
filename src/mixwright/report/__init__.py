"""What was found, in tables and on one page."""
