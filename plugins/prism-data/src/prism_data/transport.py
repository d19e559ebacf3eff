"""HTTP requests with time-outs and retries, whose token reaches one origin only, also over redirects.

Errors of the HTTP library are replaced, not chained: their texts hold whole addresses, and the query of a
signed address is a secret.
"""

from __future__ import annotations

import logging
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import quote, unquote, urljoin, urlsplit

import requests
from attrs import field, frozen

from prism.config.secrets import MASK
from prism.errors import DataError, EnvironmentUnfit, PrismError, Unreachable
from prism_data.options import HttpOptions

PAUSES = (1.0, 3.0, 9.0)
"""Seconds between one try and the next, each ± half of it so that the ranks of a run do not ask all at once."""
_LONGEST_PAUSE = 60.0
_REDIRECTS = 10
_LATER = {408, 425, 429}
_AUTHORITIES = "a PEM file of an institute's own authority is named by unified_data_access.client: {…, ca_bundle: …}"

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")


class Busy(Unreachable):
    """A server answers that it cannot now; `wait` is how many seconds it asks for."""

    wait = 0.0


def persist(act: Callable[[], _T]) -> _T:
    """What `act` returns; while it raises `Unreachable`, it is called again after each of `PAUSES`."""
    for pause in PAUSES:
        try:
            return act()
        except Unreachable as error:
            asked = min(error.wait, _LONGEST_PAUSE) if isinstance(error, Busy) else 0.0
            seconds = max(asked, pause * random.uniform(0.5, 1.5))
            _LOGGER.warning("%s; asked again in %.0f s", error.message, seconds)
            time.sleep(seconds)
    return act()


@frozen
class Transport:
    """Asks servers on behalf of a catalogue, whose origin (scheme, host, port) alone is sent the token."""

    _options: HttpOptions = field(repr=False)

    @contextmanager
    def open(self, url: str, *, headers: Mapping[str, str] = MappingProxyType({})) -> Iterator[requests.Response]:
        """The answer to GET `url` after its redirects, with its body still to be read (inside of `with`).

        Raises `Unreachable` when the server is away, too slow, or answers 429 or 5xx, also while the body is
        read; `DataError` for every other refusal; `EnvironmentUnfit` when its certificate is not trusted.
        """
        for _ in range(_REDIRECTS + 1):
            self._check_address(url)
            try:
                response = self._get(url, headers)
                if target := _redirected(response):
                    response.close()
                    url = urljoin(url, target)
                    continue
                with response:
                    self._check_status(response, url)
                    yield response
                    return
            except requests.RequestException as error:
                raise self._failure(error, url) from None
        raise DataError(f"{self.shown(url)}: redirected more than {_REDIRECTS} times", hint="is there a loop?")

    def shown(self, url: str) -> str:
        """`url` as it may be shown: no query (signatures of signed addresses), user information or token."""
        parts = urlsplit(url)
        text = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        bare = self._options.token.rpartition(" ")[2]
        for form in {bare, quote(bare, safe="")} - {""}:
            text = text.replace(form, MASK)
        return text

    def _get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        timeout = self._options.timeout
        try:
            # An `auth` of our own also keeps the library from sending what ~/.netrc has for that host.
            return requests.get(
                url,
                headers=dict(headers),
                auth=self._identify,
                timeout=(timeout, timeout),
                verify=self._authorities(),
                allow_redirects=False,
                stream=True,
            )
        except requests.RequestException:
            raise
        except ValueError:
            raise DataError(f"{self.shown(url)} is no address, or redirects to what is none") from None
        except OSError as error:
            raise EnvironmentUnfit(f"the authorities to trust cannot be read: {error}", hint=_AUTHORITIES) from None

    def _authorities(self) -> str | bool:
        bundle = self._options.ca_bundle
        if bundle is None:
            return True
        if not bundle.exists():
            raise EnvironmentUnfit(f"the ca_bundle {bundle} is not there", hint=_AUTHORITIES)
        return str(bundle)

    def _identify(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._options.token and self._at_home(request.url or ""):
            request.headers[self._options.header] = _value(self._options)
        return request

    def _at_home(self, url: str) -> bool:
        # both as the library writes them: it is what is connected to
        home, other = (requests.Request("GET", each).prepare().url or "" for each in (self._options.url, url))
        return _origin(home) == _origin(other)

    def _check_address(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        except ValueError:
            raise DataError("what should be an address is none") from None
        if not sound:
            raise DataError(
                f"{self.shown(url)}: only http:// and https:// addresses without user information are asked"
            )

    def _check_status(self, response: requests.Response, url: str) -> None:
        code = response.status_code
        if response.ok and (code < 300 or (code == 304 and "If-None-Match" in response.request.headers)):
            return
        answer = f"{self.shown(url)} answers {_phrase(code)}"
        if code in (401, 403):
            raise self._refused(answer, url)
        if code in (404, 410):
            raise DataError(f"there is nothing at {self.shown(url)} ({_phrase(code)})", hint="is the address right?")
        if code in _LATER or code >= 500:
            busy = Busy(answer, hint=f"it was asked {len(PAUSES) + 1} times; try again later")
            busy.wait = _seconds(response.headers.get("Retry-After", ""))
            raise busy
        raise DataError(answer, hint="is the address right, and made for this?")

    def _refused(self, answer: str, url: str) -> DataError:
        if not self._options.token:
            hint = "set it: unified_data_access: {token: '${ENV_API_TOKEN}'}"
            return DataError(f"{answer}: it wants a token, and none is set", hint=hint)
        if not self._at_home(url):
            home = "{}://{}:{}".format(*_origin(self._options.url))
            return DataError(
                f"{answer}: the token was not sent there, it is for {home} only",
                hint="the catalogue should lead to addresses that need no token, or to its own",
            )
        hint = f"is unified_data_access.token right and still valid? It was sent as the header {self._options.header}"
        return DataError(f"{answer}: the token was refused", hint=hint)

    def _failure(self, error: requests.RequestException, url: str) -> PrismError:
        place, root = self.shown(url), _root(error)
        if isinstance(error, requests.Timeout) or isinstance(root, TimeoutError):
            return _away(f"{place} did not answer within {self._options.timeout:g} s")
        cut = isinstance(root, ssl.SSLEOFError | ssl.SSLZeroReturnError)
        if isinstance(error, requests.exceptions.SSLError) and not cut:
            reason = getattr(root, "verify_message", "") or getattr(root, "reason", "") or type(root).__name__
            return EnvironmentUnfit(
                f"{place}: no connection that can be trusted: {reason}",
                hint=_AUTHORITIES,
            )
        if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
            reason = getattr(root, "strerror", None) or type(root).__name__
            return _away(f"the connection to {place} failed or was lost: {reason}")
        return DataError(f"{place} cannot be asked, or its answer not be read: {type(error).__name__}")


def _away(message: str) -> Unreachable:
    return Unreachable(
        message, hint=f"is the server up and reached from this machine? It was asked {len(PAUSES) + 1} times"
    )


def _value(options: HttpOptions) -> str:
    bare = options.header.lower() == "authorization" and " " not in options.token
    return f"Bearer {options.token}" if bare else options.token


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80}.get(parts.scheme, 443)


def _redirected(response: requests.Response) -> str:
    """Where a redirect leads; "" when the answer is none. Servers write UTF-8 where the library reads Latin-1."""
    if response.status_code not in (301, 302, 303, 307, 308):
        return ""
    return response.headers.get("Location", "").encode("latin-1", "replace").decode("utf-8", "replace")


def _phrase(code: int) -> str:
    # the server's own words might repeat the token
    return f"{code} {HTTPStatus(code).phrase}" if code in set(HTTPStatus) else str(code)


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _root(error: BaseException) -> BaseException:
    """The first cause of an error of the HTTP library, which wraps it several times."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def file_name(url: str) -> str:
    """The name of the file that `url` is the address of; "" when it has none."""
    return Path(unquote(urlsplit(url).path.rpartition("/")[2])).name
