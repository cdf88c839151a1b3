"""Random streams, statistics and derivatives: what several rooms compute with."""
