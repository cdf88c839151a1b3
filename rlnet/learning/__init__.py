"""Training: the loop, the state of a run, the learner, and the processes that share its work."""
