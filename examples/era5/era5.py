"""The ERA5 sample: its fields, the time that is held out, and how much of the Earth each grid point stands for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray
from attrs import field, frozen

PREDICTORS = (("t", 500), ("z", 850), ("z", 500))
PREDICTAND = ("t", 850)
Array = np.ndarray


@frozen(eq=False)
class Fields:
    """What is known at some times, each with its members, on a grid of `latitude` (degrees) × longitude.

    `predictors` has the shape (time, member, 3, latitude, longitude): temperature at 500 hPa in K, geopotential at 850
    and 500 hPa in m² s⁻². `t850`, temperature at 850 hPa in K, has (time, member, latitude, longitude).
    """

    times: tuple[str, ...]
    latitude: Array = field(repr=False)
    predictors: Array = field(repr=False)
    t850: Array = field(repr=False)

    def at(self, places: Sequence[int]) -> Fields:
        """The fields at the times that stand at these places."""
        times = tuple(self.times[place] for place in places)
        return Fields(times, self.latitude, self.predictors[list(places)], self.t850[list(places)])


@frozen(eq=False)
class Split:
    """The times to learn from, the one that is held out, and the one 12 hours before it (None before the first)."""

    training: Fields
    held_out: Fields
    before: Fields | None


@frozen(eq=False)
class Statistics:
    """What is usual at each point, the mean over times and members, and how far fields lie from it, in their units.

    Usual predictors have the shape (3, latitude, longitude), their spread (3, 1, 1); usual t850 (latitude, longitude).
    """

    predictors: Array
    predictors_spread: Array
    t850: Array
    t850_spread: Array


def read_fields(path: Path) -> Fields:
    """Read the NetCDF file, in float32."""
    with xarray.open_dataset(path, engine="h5netcdf") as data:
        data = data.transpose("time", "number", "isobaricInhPa", "latitude", "longitude")
        predictors = [data[name].sel(isobaricInhPa=level).values for name, level in PREDICTORS]
        t850 = data[PREDICTAND[0]].sel(isobaricInhPa=PREDICTAND[1]).values
        times = tuple(str(time) for time in data["time"].values.astype("datetime64[m]"))
        stacked = np.stack(predictors, axis=2).astype(np.float32)
        return Fields(times, data["latitude"].values, stacked, t850.astype(np.float32))


def hold_out(fields: Fields, time: str) -> Split:
    """Set one time aside, with all its members: they are near-copies of each other, so one alone would give it away.

    Raises `ValueError` when there is no such time.
    """
    if time not in fields.times:
        raise ValueError(f"held_out: {time!r} is none of {', '.join(fields.times)}")
    place = fields.times.index(time)
    others = [other for other in range(len(fields.times)) if other != place]
    return Split(fields.at(others), fields.at([place]), fields.at([place - 1]) if place else None)


def area_weights(latitude: Array) -> Array:
    """How much of the Earth a point stands for: the cosine of its latitude, with mean 1; (latitude, 1), float32."""
    cosine = np.cos(np.deg2rad(latitude)).clip(0)
    return (cosine / cosine.mean()).astype(np.float32)[:, None]


def statistics(training: Fields) -> Statistics:
    """The statistics of the fields that are learned from. Nothing else may go into them."""
    weights = area_weights(training.latitude)
    predictors = training.predictors.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    t850 = training.t850.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    spread = np.sqrt((weights * (training.predictors - predictors) ** 2).mean(axis=(0, 1, 3, 4), keepdims=True)[0, 0])
    return Statistics(predictors, spread, t850, np.sqrt((weights * (training.t850 - t850) ** 2).mean()))
