"""What a user may set about the tracker `mlflow`."""

from __future__ import annotations

from attrs import field, frozen, validators


@frozen
class TrackerOptions:
    """`timeout`: seconds that one request to the server may take before it counts as out of reach."""

    timeout: float = field(default=8.0, validator=validators.gt(0))
