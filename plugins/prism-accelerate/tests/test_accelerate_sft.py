"""Supervised fine-tuning from a configuration to a model folder, on a tiny Llama."""

from __future__ import annotations

from prism.protocols import Example
from prism_accelerate.generate import GeneratePredictor
from prism_accelerate.options import GenerateOptions
from prism_accelerate.trainer import AccelerateTrainer


def test_a_model_learns_the_facts_and_answers_them(start_run, said, project_folder, small_model):
    run = start_run(
        {"num_train_epochs": 60, "per_device_train_batch_size": 4, "learning_rate": 3e-3, "logging_steps": 20}
    )
    folder = AccelerateTrainer().train(None, run)
    losses = [data["metrics"]["loss"] for data in said(run, "metrics") if "loss" in data["metrics"]]
    assert losses[-1] < 0.1 * losses[0]
    records = [{"instruction": f"What is {name}?", "input": "", "output": ""} for name in ("Imatinib", "Zinc")]
    examples = [Example(str(at), record) for at, record in enumerate(records)]
    answers = list(GeneratePredictor(GenerateOptions(device="cpu", max_new_tokens=40)).predict(folder, examples))
    assert [answer.id for answer in answers] == ["0", "1"]
    assert answers[0].output == "Imatinib is a kinase inhibitor."
    assert answers[1].output == "Zinc is a copper absorption inhibitor."
    assert all(answer.tokens > 3 and answer.seconds > 0 for answer in answers)
