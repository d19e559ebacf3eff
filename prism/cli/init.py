"""`prism init`: a project to start from, which is a few files that run as they are, and a schema for editors."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

import click

from prism.cli.output import data, talk
from prism.cli.session import Session, pass_session
from prism.config.finding import CONFIG_NAME
from prism.config.schema import json_schema
from prism.errors import EnvironmentUnfit, UsageError

SCHEMA_NAME = "sais_foundation.schema.json"
NEXT: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "sft": ("python make_model.py", "prism run"),
        "science": ("python make_fields.py", "prism run forecast.py:Forecast"),
        "lightning": ("prism run train.py",),
    }
)
"""Each template, a folder of that name in `prism/templates`, and the commands that run what is in it."""
LIGHTNING = ("lightning", "pytorch_lightning")


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--template",
    type=click.Choice(list(NEXT)),
    default="sft",
    show_default=True,
    help="Fine-tune a language model, train a PyTorch model on gridded fields, or train with Lightning.",
)
@click.option("--force", "existing", flag_value="replace", default="keep", help="Replace files that are there.")
@pass_session
def init(session: Session, *, folder: Path, template: str, existing: str) -> None:
    """Begin a project in DIR (default: here) that runs as it is, on a CPU and without a network.

    A commented sais_foundation.yaml, its schema for editors, and the code and data that it needs.
    """
    texts = texts_of(template, experiment=folder.absolute().name)
    texts[SCHEMA_NAME] = json.dumps(json_schema(session.option_types()), indent=2, ensure_ascii=False) + "\n"
    there = [name for name in texts if os.path.lexists(folder / name)]
    if there and existing == "keep":
        places = ", ".join(str(folder / name) for name in there)
        raise UsageError(f"already there: {places}", hint="--force replaces them; nothing was written")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentUnfit(f"{folder} cannot be written: {error.strerror}") from error
    for name in texts:
        data(f"{'replaced' if name in there else 'wrote'} {folder / name}")
    enter = [] if folder.resolve() == Path.cwd() else [f"cd {shlex.quote(str(folder))}"]
    lacks = template == "lightning" and not any(map(find_spec, LIGHTNING))
    talk(f"next: {' && '.join([*enter, *['pip install lightning'] * lacks, *NEXT[template]])}")
    talk("prism doctor says what this machine lacks for it, with the line that installs it")


def texts_of(template: str, *, experiment: str) -> dict[str, str]:
    """File name → text of a template, for an experiment called so; names are made fit for YAML and MLflow."""
    plain = re.sub(r"[^\w.-]+", "_", experiment).strip("_.-") or "experiment"
    files = [entry for entry in (resources.files("prism") / "templates" / template).iterdir() if entry.is_file()]
    texts = {entry.name: entry.read_text(encoding="utf-8") for entry in sorted(files, key=lambda entry: entry.name)}
    marks = {"@EXPERIMENT@": plain, "@MODEL@": f"{plain}_model"}
    for mark, name in marks.items():
        texts[CONFIG_NAME] = texts[CONFIG_NAME].replace(mark, json.dumps(name, ensure_ascii=False))
    return texts
