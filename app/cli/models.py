"""`models`: list the bundled models; pull and push others."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trinas.config import DEFAULT_PRESET, TEST_SETS
from trinas.errors import ModelError

from .options import JsonOption
from .terminal import print_json, print_line, print_table, say

if TYPE_CHECKING:
    from trinas.networks.cost import Cost
    from trinas.zoo.record import ModelConfig

models_cli = typer.Typer(help="List the bundled models; pull and push others.", invoke_without_command=True)

HEADERS = ["name", "scale", "preset", "made for", "parameters", "G macs", *TEST_SETS, "licence"]


@models_cli.callback()
def print_models(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the bundled models with their purpose, size, multiply-adds and measured quality."""
    if ctx.invoked_subcommand is not None:
        return
    from trinas.networks.cost import compute_cost
    from trinas.zoo.bundled import list_bundled_models
    from trinas.zoo.folder import load_config

    found = [(config, compute_cost(config.spec)) for config in map(load_config, list_bundled_models())]
    found.sort(key=lambda pair: (pair[0].spec.scale, pair[0].restores, pair[1].params))
    if as_json:
        print_json([_model_to_json(config, cost) for config, cost in found])
        return
    rows = [_to_row(config, cost) for config, cost in found]
    print_table(rows, HEADERS, numbers=range(4, 6 + len(TEST_SETS)), foldable=[3, len(HEADERS) - 1])
    print_line(
        "preset: the --preset that takes this model. The default is best; fast is for large batches and slow machines. "
        "--model takes any model."
    )
    print_line("Strongly compressed JPEGs get a restoration model in every preset.")
    print_line("Set5, Set14, BSD100: PSNR on Y in dB on test sets of clean images; higher is better.")
    print_line("G macs: billions of multiply-adds for a result of 1280x720.")


def _model_to_json(config: "ModelConfig", cost: "Cost") -> dict[str, object]:
    from trinas.zoo.bundled import list_presets

    presets = list_presets(config.name)
    return {
        "name": config.name,
        "scale": config.spec.scale,
        "presets": presets,
        "is_default": DEFAULT_PRESET in presets,
        "restores": config.restores,
        "params": cost.params,
        "macs": cost.macs,
        "figures": {name: metrics.model_dump() for name, metrics in config.metrics.items()},
        "licence": config.licence,
    }


def _to_row(config: "ModelConfig", cost: "Cost") -> list[str]:
    from trinas.zoo.bundled import list_presets

    presets = ", ".join(list_presets(config.name))
    purpose = "noise, compression" if config.restores else "clean input"
    psnr = [f"{config.metrics[test].psnr:.2f}" if test in config.metrics else "-" for test in TEST_SETS]
    size = [f"{cost.params:,}", f"{cost.macs / 1e9:.2f}"]
    return [config.name, f"x{config.spec.scale}", presets, purpose, *size, *psnr, config.licence]


@models_cli.command("pull")
def pull_from_hub(
    model: Annotated[str, typer.Argument(help="user/name on the Hugging Face Hub, or user/name@revision.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="New folder. [default: the name]")] = None,
) -> None:
    """Download a model from the Hugging Face Hub into a folder, and check it.

    `--model user/name` also works without it, and keeps the model in the Hub's own cache.
    """
    from trinas.zoo.folder import pull_model
    from trinas.zoo.hub import is_hub_id

    if not is_hub_id(model):
        raise ModelError(f"{model}: is not user/name of the Hub")
    folder = output or Path(model.partition("@")[0].rpartition("/")[2])
    pull_model(model, folder)
    say(f"Done; use it with --model {folder}")


@models_cli.command("push")
def push_to_hub(
    model: Annotated[str | None, typer.Argument(help="Bundled name or model folder.")] = None,
    repository: Annotated[str | None, typer.Argument(help="user/name. It is made if it does not exist.")] = None,
    organisation: Annotated[
        str | None, typer.Option("--all", help="Push every bundled model, each as ORG/name.", metavar="ORG")
    ] = None,
) -> None:
    """Upload a model to the Hugging Face Hub: weights, config.json, and the card with its image.

    First log in with `hf auth login`, or set HF_TOKEN. The token must allow writing.
    """
    from trinas.zoo.bundled import find_model, list_bundled_models
    from trinas.zoo.folder import push_model

    if organisation is not None and model is None:
        targets = {name: f"{organisation}/{name}" for name in list_bundled_models()}
    elif organisation is None and model is not None and repository is not None:
        targets = {model: repository}
    else:
        raise typer.BadParameter("give a model and user/name, or --all ORG")
    for name, target in targets.items():
        print_line(f"{name} is at {push_model(find_model(name), target)}")
