"""What can go wrong with tracking, said in one line.

TrackingError
├── TrackingAway   the store does not answer now; the same call may succeed later
└── NoSuchModel    what a person named is not in the registry
"""


class TrackingError(Exception):
    """Raised when MLflow cannot do what was asked; its text is one line for people."""


class TrackingAway(TrackingError):
    """Raised when MLflow did not answer within the patience of a call that had to wait for it."""


class NoSuchModel(TrackingError):
    """Raised when a model, version or alias that a person named is not in the registry."""
