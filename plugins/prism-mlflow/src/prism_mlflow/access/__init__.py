"""Access to MLflow, wherever it is: a server over a transport of our own, or a database; every call bounded in time."""
