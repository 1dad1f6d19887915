"""What can go wrong with tracking, said in one line.

TrackingError
└── TrackingAway   the store does not answer now; the same call may succeed later
"""


class TrackingError(Exception):
    """Raised when MLflow cannot do what was asked; its text is one line for people."""


class TrackingAway(TrackingError):
    """Raised when MLflow did not answer within the patience of a call that had to wait for it."""
