"""Rollouts, the collector that fills them, and the replay buffer."""
