"""The servers that tests and campaigns use are what they say: a PostgreSQL, an S3 store that refuses wrong keys."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from campaigns.servers import MlflowServer, Postgres, S3Store, ServerProcess, free_port, listens

mlflow = pytest.importorskip("mlflow")
psutil = pytest.importorskip("psutil")


def client_of(server: MlflowServer) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(tracking_uri=server.uri, registry_uri=server.uri)


def test_mlflow_keeps_its_runs_in_postgresql(postgres_mlflow_server: MlflowServer, postgres: Postgres) -> None:
    client = client_of(postgres_mlflow_server)
    run = client.create_run(client.create_experiment("on-postgresql"))
    client.log_metric(run.info.run_id, "loss", 0.25, step=3)
    import psycopg2

    address = postgres_mlflow_server.store.replace("postgresql+psycopg2", "postgresql")
    with psycopg2.connect(address) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT version(), (SELECT value FROM metrics WHERE run_uuid = %s)", (run.info.run_id,))
        version, value = cursor.fetchone()
    connection.close()
    assert version.startswith("PostgreSQL 1") and value == 0.25


def test_mlflow_keeps_its_artifacts_in_s3(s3_mlflow_server: MlflowServer, s3_store: S3Store, tmp_path: Path) -> None:
    client = client_of(s3_mlflow_server)
    run = client.create_run(client.create_experiment("on-s3"))
    content = os.urandom(3_000_000)
    (tmp_path / "weights.bin").write_bytes(content)
    client.log_artifact(run.info.run_id, str(tmp_path / "weights.bin"))
    import boto3

    keys = s3_store.environment()
    there = boto3.client(
        "s3",
        endpoint_url=s3_store.uri,
        region_name=keys["AWS_DEFAULT_REGION"],
        aws_access_key_id=s3_store.key,
        aws_secret_access_key=s3_store.secret,
    )
    listed = there.list_objects_v2(Bucket=s3_store.bucket)["Contents"]
    (found,) = [one for one in listed if run.info.run_id in one["Key"]]
    assert there.get_object(Bucket=s3_store.bucket, Key=found["Key"])["Body"].read() == content
    stranger = boto3.client(
        "s3",
        endpoint_url=s3_store.uri,
        region_name="us-east-1",
        aws_access_key_id=s3_store.key,
        aws_secret_access_key="guessed",
    )
    with pytest.raises(Exception, match="SignatureDoesNotMatch"):
        stranger.list_objects_v2(Bucket=s3_store.bucket)


def test_a_server_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    port = free_port()
    serve = f"{sys.executable} -m http.server {port} --bind 127.0.0.1"
    command = ["sh", "-c", f"sh -c 'sleep 300; true' & echo $! > child; exec {serve}"]  # sh -c: one with a child too
    server = ServerProcess(command, folder=tmp_path, answers=lambda: listens(port))
    server.start()
    child = psutil.Process(int((tmp_path / "child").read_text()))
    started = [child, *child.children(recursive=True)]
    assert len(started) == 2
    server.stop()
    until = time.monotonic() + 20
    while alive := [one for one in started if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < until, alive
        time.sleep(0.01)
    assert not listens(port)
