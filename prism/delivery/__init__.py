"""Beside a run: watching its processes, and bringing its journal to the trackers."""
