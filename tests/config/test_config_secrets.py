"""Secrets: what is one, and that none is ever shown."""

from __future__ import annotations

import json
import pickle
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from prism.config import ConfigurationError, load
from prism.config.document import read_yaml
from prism.config.secrets import is_secret_name, is_secret_variable, redactor


@pytest.mark.parametrize("name", ["HF_TOKEN", "OPENAI_API_KEY", "DB_PASSWORD_1", "MYSECRETS", "token", "aws_secret_x"])
def test_secret_variables(name: str) -> None:
    assert is_secret_variable(name)


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "HOME", "MONKEY", "KEYS", "NUM_TOKENS", "TOKENS"])
def test_other_variables(name: str) -> None:
    assert not is_secret_variable(name)


@pytest.mark.parametrize(
    "name", ["token", "password", "hf_token", "api_key", "db_password", "secret", "aws_secret_key"]
)
def test_secret_names(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["num_memory_tokens", "tokenizer", "pad_token", "eos_token", "max_new_tokens", "key", "primary_key", "secretary"],
)
def test_names_that_only_look_like_it(name: str) -> None:
    assert not is_secret_name(name)


def test_marked_fields_are_secret_whether_literal_or_not(configs: Any) -> None:
    config = configs.load(
        "unified_data_access: {token: demo_token, client: {name: cpfs, roots: [d]}}\n"
        "ml: {security: {enabled: true, username: anna, password: ${PW}}}\n",
        environ={"PW": "hunter22"},
    )
    assert config.ml.security.password == "hunter22"
    assert config.unified_data_access.client.options.token == "demo_token"
    assert config.plain()["ml"]["security"] == {"enabled": True, "username": "anna", "password": "***"}
    assert config.plain()["unified_data_access"]["token"] == "***"
    assert config.plain()["unified_data_access"]["client"]["token"] == "***"
    assert config.section("ml")["security"]["password"] == "hunter22"
    assert config.redact("it is demo_token, or hunter22.") == "it is ***, or ***."
    assert config.origin("ml.security.password").text == "${PW}"
    assert config.origin("unified_data_access.token").text == "***"
    for shown in (repr(config), repr(config.sections), repr(config.unified_data_access.client), config.dump()):
        assert "demo_token" not in shown
        assert "hunter22" not in shown


def test_an_empty_secret_is_shown_as_empty(configs: Any) -> None:
    config = configs.load("unified_data_access: {token: '${ENV_API_TOKEN:-}'}\n")
    assert config.plain()["unified_data_access"]["token"] == ""
    assert config.redact("text") == "text"


def test_what_came_from_a_secret_variable_is_masked_in_any_field(configs: Any) -> None:
    config = configs.load(
        "foundation: {experiment_description: 'Bearer ${HF_TOKEN}!'}\n"
        "ml: {parameters: {pin: ${PIN_KEY}, n: ${NUM_TOKENS}, header: ['x ${HF_TOKEN}'], copy: abcd1234}}\n"
        "x-mine: {k: ${HF_TOKEN}}\n",
        environ={"HF_TOKEN": "abcd1234", "PIN_KEY": "77", "NUM_TOKENS": "64"},
    )
    assert config.foundation.experiment_description == "Bearer abcd1234!"
    assert config.plain()["foundation"]["experiment_description"] == "Bearer ***!"
    assert dict(config.ml.parameters)["pin"] == 77
    assert config.plain()["ml"]["parameters"] == {"pin": "***", "n": 64, "header": ["x ***"], "copy": "***"}
    assert config.plain()["x-mine"] == {"k": "***"}
    assert "abcd1234" not in repr(config.ml.parameters)


def test_user_information_in_urls_is_masked(configs: Any) -> None:
    config = configs.load(
        "ml: {tracking_uri: 'https://anna:p%40ss@mlflow.example/x', parameters: {db: 'postgresql://u:geheim@h/db', "
        "git: 'ssh://git@host/repo'}}\n"
    )
    assert config.plain()["ml"]["tracking_uri"] == "https://***@mlflow.example/x"
    assert config.plain()["ml"]["parameters"] == {"db": "postgresql://***@h/db", "git": "ssh://***@host/repo"}
    assert config.redact("p@ss and p%40ss and geheim; see http://x:y@z") == "*** and *** and ***; see http://***@z"
    assert config.origin("ml.tracking_uri").text == "https://***@mlflow.example/x"


def test_secret_parameters_by_name(configs: Any) -> None:
    config = configs.load(
        "ml: {parameters: {hf_token: hf_abcdef, pad_token: '<pad>', use: {api_key: 123456}}}\nx-a: {secret: [uvwxyz]}\n"
    )
    assert config.plain()["x-a"] == {"secret": ["***"]}
    assert config.plain()["ml"]["parameters"] == {"hf_token": "***", "pad_token": "<pad>", "use": {"api_key": "***"}}
    assert config.ml.parameters.hf_token == "hf_abcdef"
    assert config.ml.parameters.use.api_key == 123456
    assert config.redact("hf_abcdef 123456") == "*** ***"


def test_overrides_and_variables_can_bring_secrets(configs: Any) -> None:
    config = configs.load(
        "ml: {parameters: {}}\n",
        environ={
            "PRISM__ML__PARAMETERS__SORT_KEY": "2",
            "PRISM__ML__SECURITY__PASSWORD": "{weird",
            "PRISM__ML__PARAMETERS__API_KEY": "[k3y,",
        },
        overrides=["unified_data_access.token=fromline"],
    )
    assert (config.ml.security.password, config.unified_data_access.token) == ("{weird", "fromline")
    assert (config.ml.parameters.api_key, config.ml.parameters.sort_key) == ("[k3y,", 2)
    assert config.plain()["ml"]["parameters"] == {"api_key": "***", "sort_key": "***"}
    assert config.redact("{weird fromline [k3y,") == "*** *** ***"


@pytest.mark.parametrize(
    "text",
    [
        "ml: {security: {password: 987654321}}\n",
        "unified_data_access: {token: 987654321}\n",
        "ml: {enabled: '${MY_TOKEN}'}\n",
        "trainer: '${MY_TOKEN}'\n",
        "ml: {tracking_uri: 'http://u:987654321@h', enabled: 'http://u:987654321@h'}\n",
    ],
)
def test_no_problem_shows_a_secret(configs: Any, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configs.load(text, environ={"MY_TOKEN": "987654321"})
    assert "987654321" not in str(caught.value)
    assert "987654321" not in repr(caught.value.problems)


def test_a_child_gets_back_exactly_what_was_masked(configs: Any) -> None:
    text = (
        "unified_data_access: {token: '${T}', client: {name: cpfs, roots: [d]}}\n"
        "ml: {security: {password: 'a$${b\"😀'}, tracking_uri: 'http://u:pass@h', parameters: {l: ['x ${MY_KEY}']}}\n"
    )
    config = configs.load(text, environ={"T": "tok ${en}", "MY_KEY": "k1k1"})
    overrides = [f"{key}={json.dumps(value)}" for key, value in config.secrets().items()]
    configs.write(config.dump())
    again = configs.load(overrides=overrides)
    assert again.unified_data_access.token == "tok ${en}"
    assert again.unified_data_access.client == config.unified_data_access.client
    assert again.section("ml") == config.section("ml")
    assert set(config.secrets()) == {
        "unified_data_access.token",
        "unified_data_access.client.token",
        "ml.security.password",
        "ml.tracking_uri",
        "ml.parameters.l",
    }


def test_values_that_every_text_contains_are_not_searched_for() -> None:
    assert redactor(["1", "abc", "****", ""]).redact("1 abc ****") == "1 abc ****"


def test_secrets_are_found_as_texts_carry_them() -> None:
    secret = 'p@ss "word"\\\nsecond line of it'
    mask = redactor([secret])
    carried = [secret, json.dumps({"p": secret}), repr(secret), "p%40ss%20%22word%22%5C%0Asecond%20line%20of%20it"]
    for text in carried:
        assert "ss" not in mask.redact(text).replace("***", "")
    assert mask.redact("  second line of it") == "  ***"
    assert pickle.loads(pickle.dumps(mask)).redact(secret) == "***"


SECRETS = st.text(
    alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=4, max_size=24
).filter(lambda text: bool(text.strip()) and bool(text.strip("*")) and "${" not in text)


@seed(20261123)
@settings(max_examples=80, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(SECRETS, st.text(max_size=10), st.text(max_size=10))
def test_a_secret_is_never_shown(secret: str, before: str, after: str) -> None:
    text = (
        "unified_data_access: {token: '${A:-}', client: {name: c}}\n"
        "ml: {security: {password: '${A}'}, parameters: {x: 'q${MY_TOKEN}q', y: ['${MY_TOKEN}'], hf_token: '${A}'}}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"
        path.write_text(text)
        environ = {"A": secret, "MY_TOKEN": secret}
        config = load(path, read=read_yaml, option_type=lambda kind, name: None, environ=environ)
    assert config.unified_data_access.token == secret
    plain = config.plain()
    assert plain["unified_data_access"]["token"] == plain["ml"]["security"]["password"] == "***"
    assert plain["ml"]["parameters"] == {"x": "q***q", "y": ["***"], "hf_token": "***"}
    shown = [config.redact(before + secret + after), config.redact(json.dumps([secret], ensure_ascii=False))]
    origins = [config.origin(key).text for key in config.shown()]
    fixed = json.dumps(plain, ensure_ascii=False) + config.dump() + repr(config) + "".join(origins)
    for result in shown:
        assert secret not in result
    if secret not in text and not any(secret in word for word in _WORDS):
        assert secret not in fixed


_WORDS = [
    "default_experiment",
    "runs:/{run_id}/artifacts/model",
    "accelerate",
    "generate",
    "mlflow",
]
