"""MLflow inside a run: its own calls go to the run's journal, and only what the journal cannot answer to the server."""
