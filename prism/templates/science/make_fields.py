"""Make the fields: a tracer on a periodic grid, one field a day, as fields_train.npy and fields_validation.npy.

A steady wind carries the tracer, diffusion spreads it, and every day something random is added, which nobody can
forecast. The same bytes each time. For work of your own put arrays (time, y, x) of your own in their place.
"""

from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SIZE = 32  # cells in y and in x
DAYS = {"train": 211, "validation": 51}
STIRRED = 0.1  # standard deviation of what is random in a day; a day's field has about 0.6


def smooth_noise(rng: np.random.Generator) -> np.ndarray:
    """A random field of large scales with mean 0 and standard deviation 1, (y, x)."""
    wavenumber = np.fft.fftfreq(SIZE, d=1 / SIZE)
    keep = np.exp(-(wavenumber[:, None] ** 2 + wavenumber[None, :] ** 2) / 18)
    keep[0, 0] = 0
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal((SIZE, SIZE))) * keep).real
    return field / field.std()


def next_day(today: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The field a day later: carried two cells in x and one in y, spread a little, stirred."""
    carried = np.roll(today, (1, 2), axis=(0, 1))
    around = sum(np.roll(carried, shift, axis) for shift in (-1, 1) for axis in (0, 1)) / 4
    return 0.8 * carried + 0.2 * around + STIRRED * smooth_noise(rng)


def main() -> None:
    for seed, (split, days) in enumerate(DAYS.items()):
        rng = np.random.default_rng(seed)
        fields = [0.6 * smooth_noise(rng)]
        while len(fields) < days:
            fields.append(next_day(fields[-1], rng))
        np.save(HERE / f"fields_{split}.npy", np.stack(fields).astype(np.float32))
        print(f"fields_{split}.npy: {days} days of {SIZE} x {SIZE}, standard deviation {np.std(fields):.2f}")


if __name__ == "__main__":
    main()
