"""Where tasks run: this machine now, a cluster behind the same interface."""
