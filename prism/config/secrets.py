"""What is a secret, and how texts are freed of it before anybody reads them."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from attrs import field, frozen

MASK = "***"
# The metadata of a field whose value is never shown: `token: str = field(default="", repr=False, metadata=SECRET)`.
SECRET: Mapping[str, object] = MappingProxyType({"secret": True})
_SHORTEST = 4  # shorter values are masked where they stand, but not looked for in texts: "1" is in every text
_VARIABLE = re.compile(r"(.*_)?(TOKEN|KEY)|.*PASSWORD.*|.*PASSWD.*|.*SECRET.*")
_NAME = re.compile(
    r"token|(hf|hub|api|auth|access|bearer|wandb|push_to_hub|private|refresh)_token"
    r"|(.*_)?(password|passwd|secret|api_key|secret_key|access_key|private_key)"
)
_USER_IN_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#]*@")


def is_secret_variable(name: str) -> bool:
    """Whether an environment variable of this name holds a secret (`*_TOKEN`, `*_KEY`, `*PASSWORD*`, `*SECRET*`)."""
    return _VARIABLE.fullmatch(name.upper()) is not None


def is_secret_name(name: str) -> bool:
    """Whether a key of this name holds a secret: `password`, `hf_token`; not `tokenizer`, `pad_token`, `max_tokens`."""
    return _NAME.fullmatch(name.lower()) is not None


def mask_urls(text: str) -> str:
    """`text` with the user information of every URL in it masked."""
    return _USER_IN_URL.sub(rf"\g<1>{MASK}@", text) if "://" in text else text


def user_of_url(text: str) -> Iterator[str]:
    """The secret parts of the user information of the URLs in `text`, as written and decoded."""
    for match in _USER_IN_URL.finditer(text):
        user, colon, password = match[0][len(match[1]) : -1].partition(":")
        if not colon and not match[1].startswith("http"):
            continue  # ssh://git@host names an account
        hidden = password if colon else user
        yield from {hidden, urllib.parse.unquote(hidden)}


@frozen
class Redactor:
    """Masks the secret values that it knows, and user information in URLs, in any text."""

    secrets: frozenset[str] = field(factory=frozenset, repr=False)
    _pattern: re.Pattern[str] | None = field(init=False, repr=False, eq=False)

    @_pattern.default
    def _compile(self) -> re.Pattern[str] | None:
        forms = {form for value in self.secrets for form in _forms(value)}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        return re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def redact(self, text: str) -> str:
        """`text` with every known secret masked."""
        return mask_urls(self._pattern.sub(MASK, text) if self._pattern else text)

    def redact_values(self, value: Any) -> Any:
        """Plain data (dicts, lists, scalars) with every known secret masked in keys and texts."""
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, dict):
            return {self.redact(str(key)): self.redact_values(child) for key, child in value.items()}
        if isinstance(value, list | tuple):
            return [self.redact_values(child) for child in value]
        return value


def redactor(values: Iterable[str]) -> Redactor:
    """A redactor of `values`; those that every text contains (shorter than four characters) are left out."""
    return Redactor(frozenset(value for value in values if len(value) >= _SHORTEST and value.strip("*")))


def _forms(value: str) -> Iterator[str]:
    # A secret reaches texts as written, in URLs, in JSON and in a Python repr; of a long one with several lines
    # (a private key) a log may show single lines.
    yield value
    yield urllib.parse.quote(value, safe="")
    yield urllib.parse.quote_plus(value)
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]
    lines = value.splitlines()
    if len(lines) > 1:
        yield from (line.strip() for line in lines if len(line.strip()) >= 2 * _SHORTEST)
