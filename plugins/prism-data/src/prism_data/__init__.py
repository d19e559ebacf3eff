"""Data clients for Prism."""
