"""Tracking and the model registry."""
