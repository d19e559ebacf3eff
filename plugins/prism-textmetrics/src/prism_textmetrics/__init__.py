"""Text metrics for Prism."""
