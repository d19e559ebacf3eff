"""Campaigns of faults against real servers: what the table in docs/explanation/faults.md was measured with."""
