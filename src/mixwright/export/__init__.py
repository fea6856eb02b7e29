"""Recipe -> the files of the trainer people really use, one trainer a file."""
