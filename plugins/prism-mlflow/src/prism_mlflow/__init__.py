"""MLflow for Prism."""
