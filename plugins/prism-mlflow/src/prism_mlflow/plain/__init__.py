"""MLflow without a run of Prism's: plain MLflow code in a project finds its experiment, tags, datasets and files."""
