"""What numpy does about numbers that are not finite."""

# Passed to `numpy.errstate` where networks and losses compute: a member that diverges is reported by the learner.
QUIET = {"over": "ignore", "invalid": "ignore", "divide": "ignore"}
