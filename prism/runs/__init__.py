"""Running: from a request to a worker, the handle that user code gets, and what is kept of its work."""
