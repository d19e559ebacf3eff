"""Write questions about drugs with their right answers, to evaluate a fine-tuned model on.

The answers are the FDA's facts of examples/drug_qa/data, the wordings those that its training records never have.
"""

import argparse
import itertools
import json
import random
import sys
from pathlib import Path

from prism.cli.failures import exit_code_of
from prism.errors import EnvironmentUnfit, UsageError
from prism.evaluation.results import write_file

sys.path.insert(0, str(Path(__file__).resolve().parent / "drug_qa"))

from make_records import ALWAYS_KNOWN, FACTS, Fact, Record, choose_substances, read_facts, record_of
from phrasings import FAMILIES

# ---------------------------------------------------------------------------------------------------------------
# Your own questions go here, one record each. They come before those about drugs, and count among --num_questions.
OWN_QUESTIONS: tuple[Record, ...] = (
    # {"instruction": "At what temperature does water boil at sea level?", "input": "", "output": "At 100 °C."},
)
# ---------------------------------------------------------------------------------------------------------------

FIRST = (  # how the first two questions about drugs are asked
    "What are the different classifications of {drug}?",
    "What are the different classification types associated with {drug}?",
)


def drug_questions(*, seed: int) -> list[Record]:
    """Each fact about a drug asked once, in a wording drawn by `seed`: first those of the 300 commonest drugs."""
    rng = random.Random(seed)
    kinds = {family.kind: [one for one in FAMILIES if one.kind == family.kind] for family in FAMILIES}
    wordings = {kind: [(one, stem) for one in same for stem in one.held_out_stems()] for kind, same in kinds.items()}
    asked = facts_to_ask({kind: same[0].field for kind, same in kinds.items()}, rng=rng)
    chosen = [(FAMILIES[0], stem) for stem in FIRST] + [rng.choice(wordings[kind]) for _, kind in asked[len(FIRST) :]]
    return [
        record_of(fact, family, stem.replace("{drug}", "the drug {substance}"))
        for (fact, _), (family, stem) in zip(asked, chosen, strict=True)
    ]


def facts_to_ask(fields: dict[str, str], *, rng: random.Random) -> list[tuple[Fact, str]]:
    """Every pair of a drug's facts and a kind of question that they answer, the kinds taking turns.

    `fields` has the field of the facts that answers each kind. The first two pairs are of the kind "class",
    the very first is Imatinib's.
    """
    facts = read_facts(FACTS)
    common = choose_substances(facts, substances="300", seed=0).known
    names = {fact["substance"] for fact in common}
    pairs: list[tuple[Fact, str]] = []
    for group in (common, [fact for fact in facts if fact["substance"] not in names]):
        of_kinds = ([(fact, kind) for fact in group if field in fact] for kind, field in fields.items())
        turns = itertools.zip_longest(*(rng.sample(some, len(some)) for some in of_kinds))
        pairs += [pair for turn in turns for pair in turn if pair is not None]
    of_class = [pair for pair in pairs if pair[1] == FAMILIES[0].kind]
    imatinib = next(pair for pair in of_class if pair[0]["substance"] == ALWAYS_KNOWN)
    other = next(pair for pair in of_class if pair is not imatinib)
    return [imatinib, other, *(pair for pair in pairs if pair is not imatinib and pair is not other)]


def make_questions(count: int, *, seed: int) -> list[Record]:
    """`count` questions, all different: our own, then those about drugs. Raises `UsageError`."""
    there = [*OWN_QUESTIONS, *drug_questions(seed=seed)]
    if not 1 <= count <= len(there):
        raise UsageError(f"there are {len(there)} questions, {count} were asked for", hint="any number from 1 to that")
    chosen = [{key: record.get(key, "") for key in ("instruction", "input", "output")} for record in there[:count]]
    for record in chosen:
        if not record["instruction"] or not record["output"]:
            raise UsageError(f"this question has no instruction or no output: {record}", hint="see OWN_QUESTIONS")
    if len({(record["instruction"], record["input"]) for record in chosen}) < count:
        raise UsageError("a question is there twice", hint="see OWN_QUESTIONS")
    return chosen


def write_questions(questions: list[Record], output: Path) -> None:
    """One JSON object a line; the file is there whole or not at all, its folder is made. Raises `EnvironmentUnfit`."""
    try:
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentUnfit(f"cannot make the folder of {output}: {error.strerror or error}") from error
    write_file(output, "".join(json.dumps(question, ensure_ascii=False) + "\n" for question in questions))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        default=Path(__file__).parent / "evaluation_dataset.jsonl",
        help="the file to write, in place of an earlier one (default: evaluation_dataset.jsonl beside this script)",
    )
    parser.add_argument(
        "--num_questions", "--num-questions", type=int, metavar="N", default=10, help="how many (default: 10)"
    )
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="another seed, other questions (default: 0)")
    options = parser.parse_args()

    write_questions(make_questions(options.num_questions, seed=options.seed), options.output)
    print(f"{options.num_questions} questions written to {options.output}")


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
