"""MLflow for Prism: a tracker, a model registry, and where MLflow is."""

import os

# MLflow reads this when it is imported, and its telemetry thread deadlocks against import hooks;
# this package is imported before any of its modules that import MLflow. The user's own value wins.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
