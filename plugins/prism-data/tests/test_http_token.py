"""The token of the data client `http` goes to one origin only and is shown nowhere; certificates are checked."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from prism.errors import DataError, EnvironmentUnfit, PrismError, Unreachable
from prism_data import transport
from prism_data.http import HttpClient
from prism_data.options import HttpOptions

TOKEN = "t0ken-of-the-institute"
RECORDS = b'{"instruction": "q", "output": "a"}\n' * 4
MakeSite = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture
def client_of(tmp_path: Path) -> Callable[..., HttpClient]:
    def build(site: Any, **options: Any) -> HttpClient:
        given = {"url": f"{site.url}/api", "token": TOKEN, "cache": tmp_path / "cache", **options}
        return HttpClient(HttpOptions(**given))

    return build


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(certificate, key) of 127.0.0.1, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an institute")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *private))
    return folder / "ca.pem", folder / "key.pem"


# ------------------------------------------------------------ where the token goes


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ({}, "auth_token", TOKEN),
        ({"token": f" {TOKEN}\n"}, "auth_token", TOKEN),
        ({"header": "Authorization"}, "authorization", f"Bearer {TOKEN}"),
        ({"header": "Authorization", "token": f"Basic {TOKEN}"}, "authorization", f"Basic {TOKEN}"),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_the_token_goes_to_the_catalogues_origin_only(
    new_site: MakeSite,
    client_of: Callable[..., HttpClient],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    options: dict[str, str],
    name: str,
    value: str,
    status: int,
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password of-the-netrc\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    home, other, third = new_site(), new_site(), new_site()
    home.serve("/api", home.answer(status=status, Location="/v2/api"))
    home.serve("/v2/api", home.answer(status=status, Location=f"{other.url}/api"))
    other.list_datasets(("qa", f"{third.url}/f.jsonl"))
    third.serve("/f.jsonl", third.answer(status=status, Location=f"{home.url}/own.jsonl"))
    home.serve("/own.jsonl", RECORDS)
    client = client_of(home, **options)
    assert client.fetch(client.resolve("qa")).read_bytes() == RECORDS
    for page in ("/api", "/v2/api", "/own.jsonl"):
        assert [headers.get(name) for headers in home.asked(page)] == [value]
    assert len(other.seen) == len(third.seen) == 1
    assert TOKEN not in repr((other.seen, third.seen)) and "authorization" not in repr((other.seen, third.seen))


def test_not_to_http_from_https(
    new_site: MakeSite, client_of: Callable[..., HttpClient], certificate: tuple[Path, Path]
) -> None:
    home, plain = new_site(certificate), new_site()
    home.serve("/api", home.answer(status=302, Location=f"{plain.url}/api"))
    plain.list_datasets(("qa", "f.jsonl"))  # resolved against the catalogue's own address
    home.serve("/f.jsonl", home.answer(status=302, Location=f"{plain.url}/f.jsonl"))
    plain.serve("/f.jsonl", RECORDS)
    client = client_of(home, ca_bundle=certificate[0])
    assert client.fetch(client.resolve("qa")).read_bytes() == RECORDS
    assert [headers["auth_token"] for _, headers in home.seen] == [TOKEN, TOKEN]
    assert len(plain.seen) == 2 and TOKEN not in repr(plain.seen)


@pytest.mark.parametrize(
    ("url", "given"),
    [
        ("https://h.org/other?x=1", True),
        ("https://H.ORG:443/", True),
        ("http://h.org/", False),
        ("http://h.org:443/", False),
        ("https://h.org:444/", False),
        ("https://sub.h.org/", False),
        ("https://h.org.evil.net/", False),
        ("https://evil.net/https://h.org/", False),
    ],
)
def test_what_is_the_same_origin(url: str, given: bool) -> None:
    sender = transport.Transport(HttpOptions(url="https://h.org/api", token=TOKEN))
    request = requests.Request("GET", url, auth=sender._identify).prepare()
    assert (request.headers.get("auth_token") == TOKEN) == given


def test_redirects_that_lead_nowhere(new_site: MakeSite, client_of: Callable[..., HttpClient]) -> None:
    site = new_site()
    site.serve("/api", site.answer(status=302, Location="/api"))
    with pytest.raises(DataError, match="redirected more than 10 times"):
        client_of(site).resolve("qa")
    for target in ("file:///etc/passwd", "http://me:pw-of-me@127.0.0.1/", "http://[", "//"):
        site.serve("/api", site.answer(status=302, Location=target))
        with pytest.raises(PrismError) as caught:
            client_of(site).resolve("qa")
        assert "pw-of-me" not in str(caught.value)
    site.serve("/api", site.answer(status=302))
    with pytest.raises(DataError, match="answers 302"):
        client_of(site).resolve("qa")


# ------------------------------------------------------------ a token that is refused


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token(new_site: MakeSite, client_of: Callable[..., HttpClient], status: int) -> None:
    home, other = new_site(), new_site()
    home.serve("/api", home.answer(f"no {TOKEN}".encode(), status=status))
    other.serve("/f", other.answer(status=status))
    with pytest.raises(DataError, match=r"the token was refused[\s\S]*still valid.*header auth_token"):
        client_of(home).resolve("qa")
    with pytest.raises(DataError, match=r"wants a token, and none is set[\s\S]*ENV_API_TOKEN"):
        client_of(home, token="").resolve("qa")
    home.list_datasets(("qa", f"{other.url}/f"))
    with pytest.raises(DataError, match=rf"the token was not sent there, it is for {home.url} only"):
        client_of(home).resolve("qa")
    assert len(home.seen) == 3 and len(other.seen) == 1


def test_no_message_has_the_token(new_site: MakeSite, client_of: Callable[..., HttpClient], tmp_path: Path) -> None:
    site = new_site()
    signed = f"{site.url}/dl/{TOKEN}/f.jsonl?X-Signature=signed-by-me"
    site.list_datasets(("qa", signed))
    said = [repr(client_of(site)), repr(HttpOptions(url=site.url, token=TOKEN))]
    for status in (400, 401, 404, 500):
        site.serve(f"/dl/{TOKEN}/f.jsonl", site.answer(TOKEN.encode(), status=status))
        with pytest.raises(PrismError) as caught:
            client_of(site).resolve("qa")
        said.append(f"{caught.value} {caught.value!r}")
    site.serve(f"/dl/{TOKEN}/f.jsonl", site.answer(RECORDS[:5], length=100))
    site.list_datasets(("qa", signed), ("away", signed.replace(str(site.port), "9")))
    for name in ("qa", "away"):
        with pytest.raises(Unreachable) as lost:
            client_of(site).resolve(name)
        said.append("".join(traceback.format_exception(lost.value)))  # as a run's log has it
    site.serve(f"/dl/{TOKEN}/f.jsonl", RECORDS)
    version = client_of(site).resolve("qa")
    kept = "".join(path.read_text() for path in (tmp_path / "cache").rglob("*.json"))
    assert version.uri == f"{site.url}/dl/***/f.jsonl" and "***" in kept
    for text in (*said, repr(version), kept):
        assert TOKEN not in text and "signed-by-me" not in text


# ------------------------------------------------------------ TLS


def test_a_certificate_that_is_not_trusted(
    new_site: MakeSite, client_of: Callable[..., HttpClient], certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    site = new_site(certificate)
    site.serve("/f.jsonl", RECORDS)
    site.list_datasets(("qa", "f.jsonl"))
    with pytest.raises(EnvironmentUnfit, match=r"self-signed certificate[\s\S]*ca_bundle") as caught:
        client_of(site).resolve("qa")
    assert not isinstance(caught.value, Unreachable) and not site.seen
    client = client_of(site, ca_bundle=certificate[0])
    assert client.fetch(client.resolve("qa")).read_bytes() == RECORDS
    by_name = client_of(site, url=f"https://localhost:{site.port}/api", ca_bundle=certificate[0])
    with pytest.raises(EnvironmentUnfit, match=r"[Hh]ostname mismatch"):
        by_name.resolve("qa")
    with pytest.raises(EnvironmentUnfit, match=r"none\.pem is not there"):
        client_of(site, ca_bundle=tmp_path / "none.pem").resolve("qa")
    (tmp_path / "no.pem").write_text("no certificate")
    with pytest.raises(PrismError, match=r"ca_bundle|certificate"):
        client_of(site, ca_bundle=tmp_path / "no.pem").resolve("qa")


def test_https_asked_of_a_server_that_speaks_http(new_site: MakeSite, client_of: Callable[..., HttpClient]) -> None:
    site = new_site()
    with pytest.raises(EnvironmentUnfit, match="no connection that can be trusted: "):
        client_of(site, url=f"https://127.0.0.1:{site.port}/api").resolve("qa")


# ------------------------------------------------------------ a whole run

TRAIN = """
import prism

@prism.experiment
def train(run):
    data = run.dataset("qa.jsonl")
    print("lines", len(data.path.read_text().splitlines()))
    run.log_metrics({"lines": 4}, step=1)
"""


def test_a_run_uses_the_token_and_shows_it_nowhere(new_site: MakeSite, tmp_path: Path) -> None:
    home, other = new_site(), new_site()
    home.list_datasets(("qa.jsonl", "f.jsonl"))
    home.serve("/f.jsonl", home.answer(status=302, Location=f"{other.url}/f.jsonl?{TOKEN}"))
    other.serve("/f.jsonl", RECORDS)
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text(TRAIN)
    client = {"name": "http", "url": f"{home.url}/api", "cache": "cache"}
    section = {"cached": True, "token": "${ENV_API_TOKEN}", "client": client, "data_access": ["qa.jsonl"]}
    settings = {"unified_data_access": section, "ml": {"enabled": False}}
    (project / "sais_foundation.yaml").write_text(json.dumps(settings))

    def prism(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "prism", *words]
        surroundings = {**os.environ, "ENV_API_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
        return subprocess.run(argv, cwd=project, env=surroundings, capture_output=True, text=True, timeout=150)

    done = prism("run", "train.py:train")
    assert done.returncode == 0 and "lines 4" in done.stdout, done.stderr
    assert home.asked("/api")[0]["auth_token"] == home.asked("/f.jsonl")[0]["auth_token"] == TOKEN
    assert "auth_token" not in other.asked("/f.jsonl")[0]
    (run,) = (project / "artifacts" / "runs").glob("2*")
    (kept,) = json.loads((run / "data.json").read_text())
    assert kept["name"] == "qa.jsonl" and kept["uri"] == f"{home.url}/f.jsonl" and len(kept["files"]) == 1
    home.serve("/api", home.answer(TOKEN.encode(), status=401))
    refused = prism("--debug", "run", "train.py:train")
    assert refused.returncode == 1 and "the token was refused" in refused.stderr
    shown = prism("config", "show", "--json")
    files = b"".join(path.read_bytes() for path in project.rglob("*") if path.is_file())
    for text in (
        done.stdout,
        done.stderr,
        refused.stdout,
        refused.stderr,
        shown.stdout,
        files.decode("utf-8", "replace"),
    ):
        assert TOKEN not in text
