"""The command line: from arguments to a checked job, from errors to sentences and exit codes."""
