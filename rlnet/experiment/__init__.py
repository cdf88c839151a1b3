"""From a checked config to the objects of a run, and the files that it leaves."""
