"""Two-player zero-sum board games: rules, enumeration, and simulation of boards that are too large to enumerate."""
