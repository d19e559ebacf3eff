"""Training on Hugging Face Accelerate for Prism."""
