"""The demo's records, its small model and its evaluator."""

from __future__ import annotations

import importlib.util
import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from prism.config.document import read_yaml
from prism.errors import DataError
from prism.protocols import Prediction, Reference
from prism_textmetrics.rouge import Rouge

EXAMPLE = Path(__file__).parents[2] / "examples" / "drug_qa"
SETS = ("drug_qa_train.jsonl", "drug_qa_eval.jsonl", "drug_qa_unseen.jsonl")
Record = dict[str, Any]


def script(name: str, *arguments: str) -> None:
    command = [sys.executable, str(EXAMPLE / f"{name}.py"), *arguments]
    subprocess.run(command, check=True, timeout=120, capture_output=True)


def read(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    script("make_records", "--out", str(folder))
    return folder


@pytest.fixture(scope="module")
def sets(made: Path) -> dict[str, list[Record]]:
    return {name: read(made / name) for name in SETS}


@pytest.fixture(scope="module")
def model(made: Path) -> Path:
    pytest.importorskip("torch")
    script("make_model", "--records", str(made / SETS[0]), "--out", str(made / "model"))
    return made / "model"


def load(name: str) -> ModuleType:
    """A script of the example as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # attrs looks a class's module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def evaluator() -> ModuleType:
    return load("drug_facts_evaluator")


class TestRecords:
    def test_the_same_seed_gives_the_same_bytes(self, made: Path, tmp_path: Path) -> None:
        script("make_records", "--out", str(tmp_path))
        for name in SETS:
            assert (tmp_path / name).read_bytes() == (made / name).read_bytes()

    def test_another_seed_gives_others(self, made: Path, tmp_path: Path) -> None:
        script("make_records", "--seed", "1", "--out", str(tmp_path))
        for name in SETS:
            assert (tmp_path / name).read_bytes() != (made / name).read_bytes()

    def test_known_are_the_300_with_the_most_products_and_imatinib(self, sets: dict[str, list[Record]]) -> None:
        facts = sorted(
            read(EXAMPLE / "data" / "drug_facts.jsonl"), key=lambda one: (-one["products"], one["substance"])
        )
        expected = {one["substance"] for one in facts[:299]} | {"Imatinib mesylate"}
        assert {one["substance"] for one in sets[SETS[0]]} == expected
        assert {one["substance"] for one in sets[SETS[1]]} == expected

    def test_evaluation_asks_in_phrasings_that_training_has_not(self, sets: dict[str, list[Record]]) -> None:
        trained = {one["instruction"] for one in sets[SETS[0]]}
        for name in SETS[1:]:
            assert trained.isdisjoint(one["instruction"] for one in sets[name])
            phrasings = {one["phrasing"] for one in sets[name]}
            assert phrasings.isdisjoint(one["phrasing"] for one in sets[SETS[0]])

    def test_no_stem_of_evaluation_stands_inside_a_training_question(self, sets: dict[str, list[Record]]) -> None:
        # Also not with another opening, naming or closing: drug names are taken out, then searched as text.
        phrasings = load("phrasings")
        held_out = [
            stem.replace("{drug}", naming)
            for family in phrasings.FAMILIES
            for stem, naming in itertools.product(family.held_out_stems(), phrasings.NAMINGS)
        ]
        trained = {one["phrasing"] for one in sets[SETS[0]]}
        assert [stem for stem in held_out if any(stem in phrasing for phrasing in trained)] == []

    def test_unseen_substances_are_in_no_training_record(self, sets: dict[str, list[Record]]) -> None:
        unseen = {one["substance"] for one in sets[SETS[2]]}
        assert len(unseen) == 100
        assert unseen.isdisjoint(one["substance"] for one in sets[SETS[0]])

    def test_each_known_fact_is_trained_often_and_asked_once(self, sets: dict[str, list[Record]]) -> None:
        def counted(records: list[Record]) -> Counter[tuple[str, str]]:
            return Counter((one["substance"], one["kind"]) for one in records)

        trained, asked = counted(sets[SETS[0]]), counted(sets[SETS[1]])
        assert trained.keys() == asked.keys()
        assert set(asked.values()) == {1}
        assert min(trained.values()) >= 10
        assert Counter(kind for _, kind in asked) == {"class": 280, "routes": 300, "mechanism": 165}

    def test_answers_are_the_directorys(self, sets: dict[str, list[Record]]) -> None:
        answers = {(one["substance"], one["kind"]): one for one in sets[SETS[1]]}
        assert answers["Imatinib mesylate", "class"]["answer"] == "Kinase Inhibitor"
        assert "Imatinib mesylate" in answers["Imatinib mesylate", "class"]["output"]
        assert answers["Quetiapine fumarate", "routes"]["answer"] == "oral"

    def test_all_substances_leave_the_same_unseen_ones_out(self, sets: dict[str, list[Record]], tmp_path: Path) -> None:
        script("make_records", "--substances", "all", "--out", str(tmp_path))
        assert read(tmp_path / SETS[2]) == sets[SETS[2]]
        assert len({one["substance"] for one in read(tmp_path / SETS[0])}) == 1778 - 100

    def test_the_seeds_question_is_asked(self) -> None:
        text = (EXAMPLE / "phrasings.py").read_text(encoding="utf-8")
        assert "What are the different classifications of {drug}?" in text
        assert "What are the different classification types associated with {drug}?" in text


class TestModel:
    def test_size_and_special_tokens(self, model: Path) -> None:
        import transformers

        made, tokenizer = (
            getattr(transformers, name).from_pretrained(model) for name in ("AutoModelForCausalLM", "AutoTokenizer")
        )
        assert 2e6 <= made.num_parameters() <= 12e6
        special = [tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id]
        assert len({*special}) == 3 and None not in special
        assert [made.config.pad_token_id, made.config.bos_token_id, made.config.eos_token_id] == special
        assert made.config.vocab_size == len(tokenizer) <= 4096

    def test_any_text_survives_the_tokenizer(self, model: Path) -> None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model)
        text = "Imatinib mesylate ≠ 伊马替尼, 5 µg"
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True).strip() == text

    def test_the_same_seed_gives_the_same_bytes(self, made: Path, model: Path) -> None:
        script("make_model", "--records", str(made / SETS[0]), "--out", str(made / "again"))
        for file in sorted(path.name for path in model.iterdir()):
            assert (made / "again" / file).read_bytes() == (model / file).read_bytes()


CLASSIFIED, BELONGS = "{substance} is classified as {value}.", "{substance} belongs to the class {value}."


def asked(substance: str, answer: str, *, form: str = CLASSIFIED, kind: str = "class") -> Reference:
    output = form.format(substance=substance, value=answer)
    record = {"substance": substance, "kind": kind, "answer": answer, "form": form, "output": output}
    return Reference(id=f"{kind} {substance}", output=output, record=record)


REFERENCES = [asked("A", "x"), asked("B", "x"), asked("C", "y", form=BELONGS), asked("D", "z")]


def answered(*texts: str) -> list[Prediction]:
    return [Prediction(id=one.id, output=text) for one, text in zip(REFERENCES, texts, strict=True)]


class TestEvaluator:
    def test_values_of_a_case_done_by_hand(self, evaluator: ModuleType) -> None:
        predictions = answered(
            " A is classified as x. ",  # right
            "B belongs to the class x.",  # right, in other words
            "A belongs to the class y.",  # right value, wrong substance
            "D is classified as x.",  # wrong value
        )
        scores = evaluator.DrugFacts().score(predictions, REFERENCES)
        assert [scores.samples[one.id]["exact"] for one in REFERENCES] == [1.0, 1.0, 0.0, 0.0]
        assert scores.corpus["class_exact"] == 0.5
        assert scores.corpus["class_majority"] == 0.5
        # words shared in order; the constant says x in the reference's own form each time: right, right, 5 of 6, 4 of 5
        assert scores.corpus["rougeL_constant"] == pytest.approx((1 + 1 + 5 / 6 + 4 / 5) / 4)
        assert 0 < scores.corpus["rougeL_shuffled"] < 0.8

    def test_perfect_answers(self, evaluator: ModuleType) -> None:
        scores = evaluator.DrugFacts().score(answered(*(one.output for one in REFERENCES)), REFERENCES)
        assert scores.corpus["class_exact"] == 1.0
        assert scores.corpus["rougeL_shuffled"] < 1.0

    def test_each_kind_is_compared_with_its_own(self, evaluator: ModuleType) -> None:
        references = [*REFERENCES, *(asked(name, "oral", kind="routes", form="{substance}: {value}") for name in "AB")]
        predictions = [Prediction(id=one.id, output="nothing") for one in references]
        corpus = evaluator.DrugFacts().score(predictions, references).corpus
        assert (corpus["class_majority"], corpus["routes_majority"], corpus["routes_exact"]) == (0.5, 1.0, 0.0)

    def test_rouge_is_that_of_the_evaluator_rouge(self, evaluator: ModuleType) -> None:
        texts = ("A is x.", "", "the class y", "D is classified as z.")
        theirs = Rouge().score(answered(*texts), REFERENCES).samples
        for text, one in zip(texts, REFERENCES, strict=True):
            assert evaluator.rouge_l(text, one.output) == theirs[one.id]["rougeL"]

    def test_shuffled_references_are_never_the_questions_own(self, evaluator: ModuleType) -> None:
        scores = evaluator.DrugFacts().score(
            [Prediction(id=one.id, output=one.record["substance"]) for one in REFERENCES], REFERENCES
        )
        assert scores.corpus["rougeL_shuffled"] == 0.0  # each text is one word that its own reference alone has

    def test_two_calls_agree_and_say_how(self, evaluator: ModuleType) -> None:
        predictions = answered("A is x.", "B", "the class y", "D is classified as z.")
        first, second = (evaluator.DrugFacts().score(predictions, REFERENCES) for _ in range(2))
        assert first == second
        assert "shuffle:0" in first.signature

    def test_other_records_are_refused(self, evaluator: ModuleType) -> None:
        reference = Reference(id="1", output="text", record={"instruction": "?", "kind": "class"})
        with pytest.raises(DataError, match="substance, answer, form"):
            evaluator.DrugFacts().score([Prediction(id="1", output="text")], [reference])


def test_the_configuration_names_what_the_scripts_write() -> None:
    tree = read_yaml(EXAMPLE / "sais_foundation.yaml").value
    trained = [one.value for one in tree["unified_data_access"].value["data_access"].value["dataset_names"].value]
    evaluated = [one.value for one in tree["evaluation"].value["data"].value]
    assert (*trained, *evaluated) == SETS


class TestStudy:
    def outcome(self, study: ModuleType, class_exact: float) -> Any:
        figures = {f"eval/{name}/{figure}": 0.5 for name in study.SETS for figure in (*study.FIGURES, "total_samples")}
        trained = {**figures, "eval/drug_qa_eval/class_exact": class_exact, "eval/drug_qa_eval/rougeL": 0.75}
        return study.Outcome(7, trained=trained, untrained=figures, seconds=90.0)

    def test_a_missed_bound_is_said(self) -> None:
        study = load("study")
        reached, missed = (study.bounds_table([self.outcome(study, exact)]) for exact in (0.9, 0.6))
        assert "| +0.400 |" in reached and "missed" not in reached
        assert "| +0.100 (missed) |" in missed

    def test_only_the_marked_part_of_the_page_is_written(self, tmp_path: Path) -> None:
        study, page = load("study"), tmp_path / "page.md"
        page.write_text(f"before\n{study.BEGIN}\nold\n{study.END}\nafter\n", encoding="utf-8")
        study.put_into(page, study.figures_text([self.outcome(study, 0.9)]))
        text = page.read_text(encoding="utf-8")
        assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
        assert "| class, exact match | 0.900 | 0.500 |" in text
