"""One trainer a file: who trains a run."""
