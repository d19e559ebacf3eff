"""`prism init`: a project to start from, which is one commented file and the schema that editors check it with."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

import click

from prism.cli.output import data, talk
from prism.cli.session import Session, pass_session
from prism.config.finding import CONFIG_NAME
from prism.config.schema import json_schema
from prism.errors import EnvironmentUnfit, UsageError

SCHEMA_NAME = "sais_foundation.schema.json"


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--force", "existing", flag_value="replace", default="keep", help="Replace a configuration that is there."
)
@pass_session
def init(session: Session, *, folder: Path, existing: str) -> None:
    """Begin a project in DIR (default: here): a commented sais_foundation.yaml, and its schema for editors.

    The file fine-tunes a language model on instruction records; give it a base model and data.
    """
    config = folder / CONFIG_NAME
    if config.exists() and existing == "keep":
        raise UsageError(f"there is a {config} already", hint="--force replaces it; nothing was written")
    replaced = config.exists()
    schema = json.dumps(json_schema(session.option_types()), indent=2, ensure_ascii=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        config.write_text(template("sft", experiment=folder.absolute().name), encoding="utf-8")
        (folder / SCHEMA_NAME).write_text(schema, encoding="utf-8")
    except OSError as error:
        raise EnvironmentUnfit(f"{folder} cannot be written: {error.strerror}") from error
    data(f"{'replaced' if replaced else 'wrote'} {config}")
    data(f"wrote {folder / SCHEMA_NAME}")
    talk("next: give it a base_model and data, then prism config check, prism doctor, prism run")


def template(name: str, *, experiment: str) -> str:
    """The text of the template `name`, for an experiment called so; names are made fit for YAML and MLflow."""
    plain = re.sub(r"[^\w.-]+", "_", experiment).strip("_.-") or "experiment"
    text = (resources.files("prism") / "templates" / f"{name}.yaml").read_text(encoding="utf-8")
    return text.replace("@EXPERIMENT@", json.dumps(plain, ensure_ascii=False)).replace(
        "@MODEL@", json.dumps(f"{plain}_model", ensure_ascii=False)
    )
