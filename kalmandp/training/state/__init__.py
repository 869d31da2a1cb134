"""Checkpoints, and the state of an embedded trainer in a host's file."""
