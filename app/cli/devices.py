"""`devices`: list the devices that networks can run on."""

from dataclasses import asdict

from .options import JsonOption
from .terminal import print_json, print_table


def print_devices(as_json: JsonOption = False) -> None:
    """List the devices that networks can run on. A star marks the device that auto takes."""
    from trinas.device import list_devices

    found = list_devices()
    if as_json:
        print_json([asdict(info) for info in found])
    else:
        print_table([[f"{info.name}{' *' if info.is_default else ''}", info.hardware] for info in found], foldable=[1])
