"""Behaviour policies: exploration, schedules and action distributions."""
