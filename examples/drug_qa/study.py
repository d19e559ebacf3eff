"""Repeat the demo over seeds, with the untrained model beside it, and write the figures into the docs.

Each seed draws its own phrasings, unseen substances, starting weights and order of training, in a
project of its own under `artifacts/study/`: about three minutes a seed on two cores.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from attrs import frozen

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "explanation" / "drug-qa-results.md"
BEGIN, END = "<!-- figures: written by study.py -->", "<!-- end of figures -->"
SETS = {
    "drug_qa_eval": "Known substances, phrasings that training has not seen",
    "drug_qa_unseen": "Substances that training has not seen",
}
FIGURES = {
    "class_exact": "class, exact match",
    "class_majority": "class, majority answer",
    "routes_exact": "routes, exact match",
    "routes_majority": "routes, majority answer",
    "mechanism_exact": "mechanism, exact match",
    "mechanism_majority": "mechanism, majority answer",
    "rougeL": "ROUGE-L",
    "rougeL_constant": "ROUGE-L of the best constant answer",
    "rougeL_shuffled": "ROUGE-L against shuffled references",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "bleu": "BLEU",
}
BOUNDS = (
    ("class, exact match above the majority answer", "class_exact", "class_majority", 0.30),
    ("ROUGE-L above the best constant answer", "rougeL", "rougeL_constant", 0.10),
    ("ROUGE-L above shuffled references", "rougeL", "rougeL_shuffled", 0.10),
)

Metrics = Mapping[str, float]


@frozen
class Outcome:
    """One seed: `eval/<set>/<name>` → value of the trained and the untrained model, and CPU seconds of `prism run`."""

    seed: int
    trained: Metrics
    untrained: Metrics
    seconds: float


def repeat(seed: int, *, substances: str, overrides: Sequence[str], folder: Path) -> Outcome:
    """Make the records and the model of `seed` in the new project `folder`, evaluate it, run it."""
    folder.mkdir(parents=True)
    for name in ("sais_foundation.yaml", "drug_facts_evaluator.py"):
        shutil.copy(HERE / name, folder)
    call(HERE / "make_records.py", "--substances", substances, "--seed", seed, "--out", folder)
    records = folder / "drug_qa_train.jsonl"
    call(HERE / "make_model.py", "--seed", seed, "--records", records, "--out", folder / "model")
    before = cpu_seconds()
    call("-m", "prism", "run", folder / "sais_foundation.yaml", f"ml.parameters.seed={seed}", *overrides)
    seconds = cpu_seconds() - before
    run = ask(folder, "runs", "list")[0]["run_id"]
    trained = ask(folder, "runs", "show", run)["metrics"]
    untrained: dict[str, float] = {}
    for name in SETS:
        untrained |= ask(folder, "evaluate", folder / "model", "--data", f"{name}.jsonl")["metrics"]
    return Outcome(seed, trained=trained, untrained=untrained, seconds=seconds)


def call(*arguments: object) -> None:
    """Run Python with these arguments; what it says goes to the terminal. Raises `CalledProcessError`."""
    subprocess.run([sys.executable, *map(str, arguments)], check=True, stdout=sys.stderr)


def cpu_seconds() -> float:
    """What finished child processes have used so far; unlike wall time it says little about who else was there."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ask(project: Path, *arguments: object) -> Any:
    """The document that a `prism … --json` command prints."""
    command = [sys.executable, "-m", "prism", "--project", str(project), *map(str, arguments), "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def figures_text(outcomes: Sequence[Outcome]) -> str:
    """All tables, in Markdown."""
    parts = [bounds_table(outcomes)]
    for name, title in SETS.items():
        total = int(outcomes[0].trained[f"eval/{name}/total_samples"])
        parts.append(
            f"## {title}\n\n`{name}.jsonl`, {total} questions with the first seed.\n\n{set_table(outcomes, name)}"
        )
    seconds = ", ".join(f"{one.seconds:.0f} s" for one in outcomes)
    parts.append(f"CPU time of `prism run`, training and evaluation together, seed by seed: {seconds}.")
    return "\n\n".join(parts)


def bounds_table(outcomes: Sequence[Outcome]) -> str:
    """What was to be reached with known substances, and each seed's margin."""
    rows = []
    for title, figure, beside, bound in BOUNDS:
        margins = [
            one.trained[f"eval/drug_qa_eval/{figure}"] - one.trained[f"eval/drug_qa_eval/{beside}"] for one in outcomes
        ]
        shown = [f"{margin:+.3f}{'' if margin >= bound else ' (missed)'}" for margin in margins]
        rows.append([title, f"{bound:+.2f}", *shown])
    return table(["known substances", "bound", *(f"seed {one.seed}" for one in outcomes)], rows)


def set_table(outcomes: Sequence[Outcome], name: str) -> str:
    """Every figure of one set, trained and untrained."""
    sides = [*(one.trained for one in outcomes), *(one.untrained for one in outcomes)]
    rows = [[title, *(f"{side[f'eval/{name}/{figure}']:.3f}" for side in sides)] for figure, title in FIGURES.items()]
    heads = [f"{state} {one.seed}" for state in ("trained", "untrained") for one in outcomes]
    return table(["figure, by seed", *heads], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("--:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def put_into(page: Path, text: str) -> None:
    """Replace what stands between the two marks of the page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise click.ClickException(f"{page} lacks the lines {BEGIN!r} and {END!r}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


@click.command(help=__doc__)
@click.option(
    "--seed", "seeds", type=int, multiple=True, default=(0, 11, 12), show_default=True, help="May be repeated."
)
@click.option("--substances", type=click.Choice(["300", "all"]), default="300", show_default=True)
@click.option("--page", type=click.Path(path_type=Path), default=PAGE, help="The page that gets the tables.")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE ...]")
def main(seeds: Sequence[int], substances: str, page: Path, overrides: Sequence[str]) -> None:
    """Run every seed, then write the tables."""
    study = HERE / "artifacts" / "study" / time.strftime("%Y%m%d-%H%M%S")
    outcomes = [
        repeat(seed, substances=substances, overrides=overrides, folder=study / f"seed-{seed}") for seed in seeds
    ]
    put_into(page, figures_text(outcomes))
    click.echo(f"wrote {page}", err=True)


if __name__ == "__main__":
    main()
