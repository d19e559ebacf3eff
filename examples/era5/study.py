"""Hold out each of the four times in turn, with several seeds, and write the scores into the docs.

Each training is a run of its own, in a copy of the project under `artifacts/study/`: twelve of them, ten seconds each.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np
from attrs import frozen

from era5 import Fields, area_weights, read_fields

HERE = Path(__file__).resolve().parent
DATA = "data/era5_levels_members.nc"
PAGE = HERE.parents[1] / "docs" / "explanation" / "era5-results.md"
BEGIN, END = "<!-- figures: written by study.py -->", "<!-- end of figures -->"
BASELINES = {
    "linear_3x3": "linear, a point's fields and its neighbours'",
    "linear": "linear, a point's own fields",
    "persistence": "persistence, 12 hours",
    "climatology": "climatology of the other three times",
}


@frozen
class Outcome:
    """The metrics of every seed's run with one time held out, and how far members lie from their mean then, in K."""

    time: str
    runs: tuple[Mapping[str, float], ...]
    spread: float


def train(project: Path, *, held_out: str, seed: int, overrides: Sequence[str]) -> Mapping[str, float]:
    """The metrics of a new run in the project."""
    settings = (f"ml.parameters.held_out={held_out}", f"ml.parameters.seed={seed}", "ml.enabled=false", *overrides)
    call = [sys.executable, "-m", "prism", "--project", str(project)]
    subprocess.run([*call, "run", "temperature.py:Temperature", *settings], check=True, cwd=project, stdout=sys.stderr)
    newest = json.loads(subprocess.check_output([*call, "runs", "list", "--json"]))[0]["run_id"]
    metrics: Mapping[str, float] = json.loads(subprocess.check_output([*call, "runs", "show", newest, "--json"]))[
        "metrics"
    ]
    return metrics


def member_spread(fields: Fields, place: int) -> float:
    """How far the members of t850 at one time lie from their mean, root mean square over area, in K."""
    members = fields.t850[place]
    return float(np.sqrt((area_weights(fields.latitude) * (members - members.mean(axis=0)) ** 2).mean()))


def figures_text(outcomes: Sequence[Outcome]) -> str:
    """Both tables, in Markdown."""
    spread = ["*spread of the members*", *(f"{one.spread:.2f}" for one in outcomes)]
    errors = table(outcomes, "rmse", title="RMSE in K") + "\n" + f"| {' | '.join(spread)} |"
    return f"{errors}\n\n{table(outcomes, 'acc', title='Anomaly correlation')}"


def table(outcomes: Sequence[Outcome], figure: str, *, title: str) -> str:
    """One score: forecasts downwards, held-out times across; of the network the mean over seeds, and its range."""
    head = [f"{title}, held out:", *(one.time.replace("T", " ") for one in outcomes)]
    rows = [["**network**", *(over_seeds([run[f"eval_{figure}"] for run in one.runs]) for one in outcomes)]]
    for name, words in BASELINES.items():
        values = [one.runs[0].get(f"eval_{figure}_{name}") for one in outcomes]
        rows.append([words, *("–" if value is None else f"{value:.2f}" for value in values)])
    lines = [head, ["---", *("--:" for _ in outcomes)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def over_seeds(values: Sequence[float]) -> str:
    return f"**{sum(values) / len(values):.2f}** ({min(values):.2f} to {max(values):.2f})"


def put_into(page: Path, text: str) -> None:
    """Replace what stands between the two marks of the page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise click.ClickException(f"{page} lacks the lines {BEGIN!r} and {END!r}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


@click.command(help=__doc__)
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1, 2), show_default=True, help="May be repeated.")
@click.option("--page", type=click.Path(path_type=Path), default=PAGE, help="The page that gets the tables.")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE ...]")
def main(seeds: Sequence[int], page: Path, overrides: Sequence[str]) -> None:
    """Train with every time held out, then write the tables."""
    project = HERE / "artifacts" / "study" / time.strftime("%Y%m%d-%H%M%S")
    shutil.copytree(HERE, project, ignore=shutil.ignore_patterns("artifacts", "__pycache__", "mlflow.db"))
    fields = read_fields(project / DATA)
    outcomes = [
        Outcome(
            held_out,
            tuple(train(project, held_out=held_out, seed=seed, overrides=overrides) for seed in seeds),
            member_spread(fields, place),
        )
        for place, held_out in enumerate(fields.times)
    ]
    put_into(page, figures_text(outcomes))
    click.echo(f"wrote {page}", err=True)


if __name__ == "__main__":
    main()
