"""Prism's trainer, launcher and predictor on Hugging Face Accelerate."""
