"""MLflow's calls inside a run whose configuration gives no access to its server, as when a password is not set."""

from __future__ import annotations

from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException


def test_a_missing_password_does_not_disturb_what_is_logged(
    enter: Any, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISM__ML__SECURITY__ENABLED", "true")
    monkeypatch.setenv("PRISM__ML__SECURITY__USERNAME", "alice")
    address = f"http://127.0.0.1:{free_port}"
    inside = enter(address)
    mlflow.log_metric("loss", 0.5)
    with pytest.raises(MlflowException, match=r"ml\.security\.password is empty"):
        mlflow.search_runs()
    mlflow.set_tracking_uri(address)  # of the run's own server
    mlflow.log_metric("loss", 0.25, step=1)
    assert [record.data["metrics"] for record in inside.journal("metrics")] == [{"loss": 0.5}, {"loss": 0.25}]
