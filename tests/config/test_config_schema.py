"""The JSON Schema: it is draft-07, takes what loads, and refuses what does not."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from prism.config.document import read_text
from prism.config.nodes import plain
from prism.config.schema import json_schema
from prism.config.sections import Sections, fields_of

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture
def validate(configs: Any) -> Any:
    import importlib

    options = importlib.import_module(type(configs).__module__).OPTIONS
    kinds: dict[str, dict[str, type | None]] = {}
    for (kind, name), option_type in options.items():
        kinds.setdefault(kind, {})[name] = option_type
    schema = json.loads(json.dumps(json_schema(kinds)))
    jsonschema.Draft7Validator.check_schema(schema)
    return lambda text: [
        error.json_path for error in jsonschema.Draft7Validator(schema).iter_errors(plain(read_text(text, file="f")))
    ]


@pytest.mark.parametrize(
    "text",
    [
        "foundation:\n",
        "data_access: {enabled: true, token: '${T}', data_access: [a, b]}\n",
        "unified_data_access: {data_access: {dataset_names: [a]}, client: {name: cpfs, roots: [a], cached: true}}\n",
        "trainer: {name: accelerate, task: sft, betas: [0.5, 1], colour: red, inner: {depth: 2}, table: {a: 1}}\n",
        "trainer: ${TRAINER}\nlauncher: {name: accelerate, processes: ${N:-2}}\n",
        "ml: {enabled: ${ON:-true}, parameters: {a: {b: [1]}}, model_repo: {name: m, version: , tag: {a: b}}}\n",
        "extends: [a.yaml]\nx-own: {a: [1]}\nevaluation: {evaluators: [rouge, {name: bleu}], max_samples: null}\n",
    ],
)
def test_what_loads_is_valid(validate: Any, text: str) -> None:
    assert validate(text) == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("ml: {enabled: 'yes'}\n", "$.ml.enabled"),
        ("ml: {enabld: true}\n", "$.ml"),
        ("mll: {}\n", "$"),
        ("trainer: other\n", "$.trainer"),
        ("trainer: {name: accelerate, tsk: sft}\n", "$.trainer"),
        ("launcher: {name: accelerate, processes: 0}\n", "$.launcher"),
        ("evaluation: {data: x}\n", "$.evaluation.data"),
        ("ml: {model_repo: {version: 1.10}}\n", "$.ml.model_repo.version"),
    ],
)
def test_what_does_not_load_is_not_valid(validate: Any, text: str, path: str) -> None:
    assert validate(text) == [path]


def test_every_key_says_what_it_means(configs: Any) -> None:
    def visit(cls: type) -> None:
        for each in fields_of(cls):
            assert str(each.metadata["doc"]).endswith("."), each
            if attrs.has(each.type) and each.type.__module__ == Sections.__module__:
                visit(each.type)

    visit(Sections)
