"""ROUGE is equal to rouge-score and BLEU to sacrebleu; other scripts are scored, not dropped."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pydoc_data.topics import topics

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from prism.errors import DataError
from prism.protocols import Prediction, Reference
from prism_textmetrics import plugin
from prism_textmetrics.bleu import Bleu
from prism_textmetrics.options import TextOptions
from prism_textmetrics.rouge import Rouge, longest_common_subsequence, rouge, tokenize_characters, tokenize_latin

NAMES = ("rouge1", "rouge2", "rougeL")
PEER = RougeScorer(list(NAMES), use_stemmer=False)
AR12 = (
    "The investigational drug AR-12 is classified into different types based on its pharmacological profile, mechanism "
    "of action, and potential therapeutic applications. Here are some of the different classification types associated "
    "with AR-12:\n\n1. **Antiviral**: AR-12 is classified as an antiviral drug...",
    "AR-12 is classified as a small molecule inhibitor targeting PDK1 in the PI3K/AKT pathway. It's also categorized "
    "as an anti-cancer agent, anti-viral compound, and autophagy modulator.",
)
CHINESE = "伊马替尼是一种酪氨酸激酶抑制剂，用于治疗慢性髓性白血病。"
PARAPHRASE = "伊马替尼属于酪氨酸激酶抑制剂，治疗慢性髓性白血病。"


def predicted(*texts: str) -> list[Prediction]:
    return [Prediction(str(number), text) for number, text in enumerate(texts)]


def referenced(*texts: str) -> list[Reference]:
    return [Reference(str(number), text) for number, text in enumerate(texts)]


def ours(prediction: str, reference: str) -> dict[str, float]:
    return rouge(tokenize_latin(prediction), tokenize_latin(reference))


def peers(prediction: str, reference: str) -> dict[str, float]:
    return {name: float(score.fmeasure) for name, score in PEER.score(reference, prediction).items()}


def real_pairs() -> list[tuple[str, str]]:
    """Paragraphs of Python's manual: each with a damaged copy of itself, and with the one after it."""
    chance = random.Random(5)
    paragraphs = [text for topic in list(topics.values())[:12] for text in topic.split("\n\n") if text.strip()][:150]
    damaged = [" ".join(word for word in text.split() if chance.random() > 0.3) for text in paragraphs]
    return [AR12, *zip(damaged, paragraphs, strict=True), *pairwise(paragraphs)]


# ------------------------------------------------------------ ROUGE


def test_equal_to_rouge_score_to_the_last_bit_on_real_texts() -> None:
    pairs = real_pairs()
    assert len(pairs) > 290
    for prediction, reference in pairs:
        assert ours(prediction, reference) == peers(prediction, reference)


words = st.sampled_from(["a", "b", "the", "PDK1", "anti-viral", "É", "x.y", "2,5", "β", "_", "'s", "\n", "İ", "中"])
texts = st.one_of(st.text(max_size=40), st.lists(words, max_size=40).map(" ".join))


@settings(max_examples=400, deadline=None)
@given(texts, texts)
def test_equal_to_rouge_score_on_any_text(prediction: str, reference: str) -> None:
    assert ours(prediction, reference) == peers(prediction, reference)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=90), st.lists(st.integers(0, 4), max_size=90))
def test_the_longest_common_subsequence_is_that_of_the_table(first: Sequence[int], second: Sequence[int]) -> None:
    row = [0] * (len(second) + 1)
    for item in first:
        above = row[:]
        for place, other in enumerate(second, start=1):
            row[place] = above[place - 1] + 1 if item == other else max(above[place], row[place - 1])
    assert longest_common_subsequence(first, second) == row[-1]


def test_corpus_scores_are_means_and_empty_predictions_are_zero() -> None:
    scores = Rouge().score(predicted("a b c", "", "x y"), referenced("a b c", "a b", "a b"))
    assert scores.corpus == {"rouge1": 1 / 3, "rouge2": 1 / 3, "rougeL": 1 / 3}
    assert scores.samples["1"] == {"rouge1": 0.0, "rouge2": 0.0, "rougeL": 0.0}
    assert "tok:latin" in scores.signature and "f-measure" in scores.signature


def test_chinese_is_scored_by_characters() -> None:
    scores = Rouge().score(predicted(CHINESE, PARAPHRASE, "今天天气很好"), referenced(CHINESE, CHINESE, CHINESE))
    assert scores.samples["0"]["rougeL"] == 1.0
    assert 0.7 < scores.samples["1"]["rougeL"] < 1.0
    assert scores.samples["2"]["rougeL"] < 0.2
    assert "tok:characters" in scores.signature
    assert peers(CHINESE, CHINESE)["rougeL"] == 0.0  # why rouge-score cannot be used for it


def test_a_shared_latin_name_does_not_make_a_chinese_answer_right() -> None:
    reference, wrong = "AR-12 是靶向 PDK1 的小分子抑制剂", "PDK1 与今天的天气没有关系"
    assert Rouge().score(predicted(wrong), referenced(reference)).corpus["rougeL"] < 0.25


def test_tokens_of_mixed_text() -> None:
    assert tokenize_characters("ＰＤＫ１ 抑制 naïve_Anti-viral カナ 한국") == [
        "pdk1", "抑", "制", "naïve", "anti", "viral", "カ", "ナ", "한", "국"
    ]  # fmt: skip


def test_characters_are_words_on_ascii_text() -> None:
    for prediction, reference in real_pairs()[:50]:
        if prediction.isascii() and reference.isascii():
            assert tokenize_characters(reference) == tokenize_latin(reference)


@pytest.mark.parametrize(
    "text", ["Иматиниб ингибитор", "Η ιματινίμπη είναι", "これはテストです", "이것은 시험", "นี่คือการทดสอบ"]
)
def test_identical_texts_of_any_script_score_one(text: str) -> None:
    assert Rouge().score(predicted(text), referenced(text)).corpus["rougeL"] == 1.0
    assert Bleu().score(predicted(text * 3), referenced(text * 3)).corpus["bleu"] == 1.0


def test_greek_letters_in_latin_text_change_nothing() -> None:
    scores = Rouge().score(predicted("β-blocker"), referenced("a β-blocker, 5 µg"))
    assert "tok:latin" in scores.signature
    assert scores.samples["0"] == peers("β-blocker", "a β-blocker, 5 µg")


# ------------------------------------------------------------ BLEU


def test_equal_to_sacrebleu() -> None:
    pairs = real_pairs()[:60]
    predictions, references = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    scores = Bleu().score(predicted(*predictions), referenced(*references))
    assert scores.corpus["bleu"] == sacrebleu.corpus_bleu(predictions, [references]).score / 100
    for number, (prediction, reference) in enumerate(pairs):
        expected = sacrebleu.sentence_bleu(prediction, [reference]).score / 100
        assert scores.samples[str(number)]["bleu"] == min(expected, 1.0)
    assert scores.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_chinese_bleu_uses_characters() -> None:
    scores = Bleu().score(predicted(PARAPHRASE), referenced(CHINESE))
    assert scores.corpus["bleu"] > 0.3 and "tok:zh" in scores.signature
    assert sacrebleu.corpus_bleu([PARAPHRASE], [[CHINESE]]).score < 5
    assert "tok:char" in Bleu().score(predicted("これは"), referenced("これはテスト")).signature


def test_empty_predictions_have_no_bleu() -> None:
    scores = Bleu().score(predicted("", ""), referenced("a b c d", "e f g h"))
    assert scores.corpus == {"bleu": 0.0} and scores.samples["0"] == {"bleu": 0.0}


# ------------------------------------------------------------ both


@pytest.mark.parametrize("evaluator", [Rouge, Bleu])
@pytest.mark.parametrize("reference", [CHINESE, "mostly English, 中", "これは", "한국어"])
def test_a_latin_tokenizer_is_refused_for_other_scripts(evaluator: type[Rouge | Bleu], reference: str) -> None:
    with pytest.raises(DataError, match="tokenizer: latin cannot score"):
        evaluator(TextOptions(tokenizer="latin")).score(predicted("x"), referenced(reference))
    scores = evaluator(TextOptions(tokenizer="characters")).score(predicted(reference), referenced(reference))
    assert all(0 <= value <= 1 for value in scores.corpus.values())


@pytest.mark.parametrize("evaluator", [Rouge, Bleu])
def test_what_does_not_match_is_refused(evaluator: type[Rouge | Bleu]) -> None:
    with pytest.raises(DataError, match="without a prediction: '1'"):
        evaluator().score(predicted("a"), referenced("a", "b"))
    with pytest.raises(DataError, match="without a reference: '1'"):
        evaluator().score(predicted("a", "b"), referenced("a"))
    with pytest.raises(DataError, match="predicted twice: '0'"):
        evaluator().score([*predicted("a"), *predicted("a")], referenced("a"))
    with pytest.raises(DataError, match="not text but dict"):
        evaluator().score([Prediction("0", {"a": 1})], referenced("a"))
    with pytest.raises(DataError, match="nothing to score"):
        evaluator().score([], [])


def test_nothing_heavy_is_imported() -> None:
    providers = plugin.prism_evaluators()
    assert [provider.name for provider in providers] == ["rouge", "bleu"]
    assert all(provider.load_options() is TextOptions and provider.load_target() for provider in providers)
    code = (
        "import sys, prism_textmetrics.plugin, prism_textmetrics.options\n"
        "assert 'sacrebleu' not in sys.modules\n"
        "import prism_textmetrics.rouge, prism_textmetrics.bleu\n"
        "print(sorted({'nltk', 'scipy', 'rouge_score', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_tokenizer_is_refused() -> None:
    with pytest.raises(ValueError, match="tokenizer"):
        TextOptions(tokenizer="jieba")  # type: ignore[arg-type]
