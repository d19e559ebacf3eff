"""Registration: the data clients `local`, `cpfs` and `http`."""

from __future__ import annotations

from prism.hookspecs import hookimpl
from prism.providers import Provider


@hookimpl
def prism_data_clients() -> list[Provider]:
    return [
        Provider(
            "local",
            target="prism_data.local:LocalClient",
            options="prism_data.options:LocalOptions",
            summary="datasets in folders of this machine, used where they lie",
        ),
        Provider(
            "cpfs",
            target="prism_data.cpfs:CpfsClient",
            options="prism_data.options:CpfsOptions",
            summary="datasets on a mounted parallel file system, copied once into a local cache",
        ),
        Provider(
            "http",
            target="prism_data.http:HttpClient",
            options="prism_data.options:HttpOptions",
            summary="datasets that a catalogue on a server knows, mounted here or downloaded into a local cache",
        ),
    ]
