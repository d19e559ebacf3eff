"""The `prism` command, one file per noun."""
