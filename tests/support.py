"""What test modules import from one another's side: a clean environment for a process."""

from bench.places import environment

__all__ = ["environment"]
