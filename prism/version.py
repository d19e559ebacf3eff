"""The one version of Prism and of every distribution that is released with it."""

VERSION = "0.2.0"
