"""What a forecast has to beat, and the two scores it is judged by; every baseline knows the training times alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import frozen

from era5 import Array, Fields, Split, area_weights, statistics


@frozen
class Score:
    """The root mean square error in K, and the anomaly correlation: None for climatology, which has no anomaly."""

    rmse: float
    acc: float | None


def mean_square(error: Any, weights: Any) -> Any:
    """The mean square over fields and area, of arrays or tensors (…, latitude, longitude)."""
    return (weights * error**2).mean()


def correlation(anomaly: Any, truth: Any, weights: Any) -> Any:
    """The correlation over area of two anomalies (…, latitude, longitude), one value for each field (…).

    Anomalies are from climatology; as usual for this score, their own mean over the globe is not taken out.
    """
    both, own, true = ((weights * product).sum((-2, -1)) for product in (anomaly * truth, anomaly**2, truth**2))
    return both / (own * true) ** 0.5


def score(forecast: Array, truth: Array, climatology: Array, weights: Array) -> Score:
    """How good a forecast of some fields is; a forecast of the climatology itself has no anomaly to correlate."""
    rmse = float(mean_square(forecast - truth, weights)) ** 0.5
    if np.array_equal(forecast, np.broadcast_to(climatology, forecast.shape)):
        return Score(rmse, None)
    return Score(rmse, float(correlation(forecast - climatology, truth - climatology, weights).mean()))


def baselines(split: Split) -> dict[str, Array]:
    """Forecasts of t850 at the held-out time by name, (time, member, latitude, longitude) each, in K."""
    held_out = split.held_out
    forecasts = {"climatology": np.broadcast_to(statistics(split.training).t850, held_out.t850.shape)}
    if split.before is not None:
        forecasts["persistence"] = split.before.t850  # 12 hours ago, the same member
    return forecasts | {
        "linear": linear(split.training, held_out, reach=0),
        "linear_3x3": linear(split.training, held_out, reach=1),
    }


def score_baselines(split: Split) -> dict[str, Score]:
    weights, usual = area_weights(split.held_out.latitude), statistics(split.training).t850
    return {name: score(each, split.held_out.t850, usual, weights) for name, each in baselines(split).items()}


def linear(training: Fields, held_out: Fields, *, reach: int) -> Array:
    """Least squares, from anomalies of the predictors to that of t850, the same coefficients everywhere.

    A point's predictors are its own three fields, and those of the points up to `reach` rows and columns away.
    """
    usual = statistics(training)
    weights = np.sqrt(np.broadcast_to(area_weights(training.latitude), training.t850.shape)).reshape(-1, 1)

    def columns(fields: Fields) -> Array:
        anomalies = (fields.predictors - usual.predictors) / usual.predictors_spread
        return np.stack(neighbours(anomalies, reach=reach), axis=-1).reshape(fields.t850.size, -1)

    target = (training.t850 - usual.t850).reshape(-1, 1)
    coefficients, *_ = np.linalg.lstsq(weights * columns(training), weights * target)
    return usual.t850 + (columns(held_out) @ coefficients).reshape(held_out.t850.shape)


def neighbours(anomalies: Array, *, reach: int) -> list[Array]:
    """Each of the three fields as seen from each place around a point, (time, member, latitude, longitude).

    Eastwards the grid goes round the Earth; beyond a pole its last row is repeated.
    """
    around = np.pad(anomalies, [(0, 0)] * 4 + [(reach, reach)], mode="wrap")
    padded = np.pad(around, [(0, 0)] * 3 + [(reach, reach), (0, 0)], mode="edge")
    rows, across, side = anomalies.shape[-2], anomalies.shape[-1], 2 * reach + 1
    return [
        padded[:, :, field, south : south + rows, east : east + across]
        for field in range(anomalies.shape[2])
        for south in range(side)
        for east in range(side)
    ]
