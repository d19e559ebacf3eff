"""Make the training and evaluation records of the drug questions from the FDA's drug facts."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from attrs import frozen
from phrasings import FAMILIES, Family, phrasings_of

Fact = dict[str, Any]
Record = dict[str, Any]

FACTS = Path(__file__).parent / "data" / "drug_facts.jsonl"
ALWAYS_KNOWN = "Imatinib mesylate"
KNOWN = 300
UNSEEN = 100
PHRASINGS_PER_FACT = 12


@frozen
class Substances:
    """Facts of the substances that training sees, and of those that it never sees."""

    known: tuple[Fact, ...]
    unseen: tuple[Fact, ...]


@frozen
class Records:
    """The three sets: known facts to learn, the same facts asked anew, and substances never seen."""

    train: tuple[Record, ...]
    known: tuple[Record, ...]
    unseen: tuple[Record, ...]


def read_facts(path: Path) -> list[Fact]:
    """The drug facts, one mapping a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def choose_substances(facts: Sequence[Fact], *, substances: str, seed: int) -> Substances:
    """Split the substances; `substances` is "300" (those with the most products) or "all".

    Unseen substances are drawn outside the 300 in both cases, so that the two can be compared.
    """
    ranked = sorted(facts, key=lambda fact: (fact["substance"] != ALWAYS_KNOWN, -fact["products"], fact["substance"]))
    known, others = ranked[:KNOWN], ranked[KNOWN:]
    classified = [fact for fact in others if "established_pharmacologic_class" in fact]
    unseen = random.Random(f"unseen {seed}").sample(classified, UNSEEN)
    if substances == "all":
        names = {fact["substance"] for fact in unseen}
        known += [fact for fact in others if fact["substance"] not in names]
    return Substances(known=tuple(known), unseen=tuple(unseen))


def join_values(values: Sequence[str]) -> str:
    """`["a", "b", "c"]` as "a, b and c"."""
    *head, last = values
    return f"{', '.join(head)} and {last}" if head else last


def record_of(fact: Fact, family: Family, phrasing: str) -> Record:
    """One record: the question, its answer, and what an evaluator wants to know about it."""
    substance, answer = fact["substance"], join_values(fact[family.field])
    return {
        "instruction": phrasing.format(substance=substance),
        "input": "",
        "output": family.answer.format(substance=substance, value=answer),
        "substance": substance,
        "kind": family.kind,
        "answer": answer,
        "form": family.answer,
        "phrasing": phrasing,
    }


def ask(facts: Sequence[Fact], pools: Sequence[tuple[Family, list[str]]], *, times: int, seed: str) -> list[Record]:
    """Ask each fact of each kind in `times` different phrasings drawn from the pools of its kind."""
    rng = random.Random(seed)
    records = []
    for kind in dict.fromkeys(family.kind for family, _ in pools):
        choices = [(family, phrasing) for family, pool in pools if family.kind == kind for phrasing in pool]
        for fact in facts:
            if choices[0][0].field in fact:
                records += [record_of(fact, *choice) for choice in rng.sample(choices, times)]
    return records


def make_records(facts: Sequence[Fact], *, substances: str, seed: int) -> Records:
    """All records; the same arguments give the same records in the same order."""
    chosen = choose_substances(facts, substances=substances, seed=seed)
    training = [(family, phrasings_of(family.training_stems())) for family in FAMILIES]
    held_out = [(family, phrasings_of(family.held_out_stems())) for family in FAMILIES]
    train = ask(chosen.known, training, times=PHRASINGS_PER_FACT, seed=f"train {seed}")
    random.Random(f"order {seed}").shuffle(train)
    return Records(
        train=tuple(train),
        known=tuple(ask(chosen.known, held_out, times=1, seed=f"known {seed}")),
        unseen=tuple(ask(chosen.unseen, held_out, times=1, seed=f"unseen {seed}")),
    )


def write_records(path: Path, records: Iterable[Record]) -> None:
    """One JSON object a line."""
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@click.command(help=__doc__)
@click.option("--substances", type=click.Choice(["300", "all"]), default="300", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path(__file__).parent, help="Folder to write to."
)
def main(substances: str, seed: int, out: Path) -> None:
    """Write drug_qa_train.jsonl, drug_qa_eval.jsonl and drug_qa_unseen.jsonl."""
    records = make_records(read_facts(FACTS), substances=substances, seed=seed)
    sets = {"train": records.train, "eval": records.known, "unseen": records.unseen}
    for name, content in sets.items():
        write_records(out / f"drug_qa_{name}.jsonl", content)
        click.echo(f"drug_qa_{name}.jsonl: {len(content)} records", err=True)


if __name__ == "__main__":
    main()
