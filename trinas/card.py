"""The card of a model: the README.md in its folder, made from config.json alone."""

from collections.abc import Mapping
from typing import Any

from trinas.cost import spec_cost
from trinas.space import ArchSpec


def model_card(
    name: str,
    spec: ArchSpec,
    licence: str,
    training: Mapping[str, Any],
    figures: Mapping[str, Mapping[str, float]],
    called: str | None = None,
) -> str:
    """Markdown that says what a model is, what it was trained on, how good it is and what it cannot do.

    It begins with the Hub's front matter: licence, kind of task and, as `model-index`, the figures.

    Args:
        called: what `--model` takes; None: the name.
    """
    cost = spec_cost(spec)
    lines = [
        "---",
        _front_matter(name, spec.scale, licence, figures),
        "---",
        "",
        f"# {name}",
        "",
        f"Enlarges photographs {spec.scale} times. {cost.params:,} parameters, "
        f"{cost.macs / 1e9:.2f} G multiply-adds for a 1280x720 output, receptive radius {cost.radius_px} pixels.",
        "",
        "```",
        f"trinas-upscale photos/ -s {spec.scale} --model {called or name}",
        "```",
        "",
        "## Architecture",
        "",
        f"Family `{spec.family}`; what each step hands on is behind the colon.",
        "",
        "```",
        *diagram(spec),
        "```",
        "",
        "## Figures",
        "",
        *_figures(spec.scale, figures),
        "",
        "## Training",
        "",
        *_training(training),
        "",
        "## Licence and limits",
        "",
        f"Weights: {licence}.",
        "",
        f"{_made_for(training)} It restores detail, it does not invent any. The only scale is {spec.scale}.",
        "",
    ]
    return "\n".join(lines)


def _front_matter(name: str, scale: int, licence: str, figures: Mapping[str, Mapping[str, float]]) -> str:
    """YAML that the Hub sorts and shows models by."""
    from huggingface_hub import EvalResult, ModelCardData  # imported here as it takes a while

    results = [
        EvalResult(
            task_type="image-to-image",
            dataset_type=test_set,
            dataset_name=f"{test_set}, x{scale}",
            metric_type=metric,
            metric_value=round(value, 4),
        )
        for test_set, values in figures.items()
        for metric, value in values.items()
    ]
    data = ModelCardData(
        license=licence.lower(),  # the Hub's names are SPDX's in lower case
        library_name="trinas",
        pipeline_tag="image-to-image",
        tags=["super-resolution", f"x{scale}"],
        metrics=["psnr", "ssim"] if results else None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml().strip()


def diagram(spec: ArchSpec) -> list[str]:
    """The network from input to output, a line a step, with the channels that it hands on."""
    lines = ["input: 3", f"  head conv3x3: {spec.trunk_width}"]
    number = 0
    for stage in spec.path():
        if isinstance(stage, int):
            lines.append(f"  nearest x{stage}, conv3x3: {spec.trunk_width}")
            continue
        number += 1
        lines.append(f"  cell {number}: " + " -> ".join(f"{slot.primitive}:{slot.width}" for slot in stage.slots))
    lines += [f"  conv3x3: {spec.trunk_width}"] * spec.plain_convs
    if spec.long_skip:
        lines.append(f"  head's output added: {spec.trunk_width}")
    if spec.upsample_after:
        return [*lines, "  tail conv3x3: 3", "output: 3"]
    return [*lines, f"  tail conv3x3: {3 * spec.scale**2}", f"  pixel shuffle x{spec.scale}: 3", "output: 3"]


def _figures(scale: int, figures: Mapping[str, Mapping[str, float]]) -> list[str]:
    if not figures:
        return ["Not measured on the test sets yet: `trinas-upscale evaluate` does."]
    return [
        f"On Y, from 8-bit images, {scale} pixels of border dropped; low-resolution images by MATLAB's bicubic.",
        "",
        "| set | PSNR, dB | SSIM |",
        "| --- | --- | --- |",
        *(f"| {name} | {values['psnr']:.2f} | {values['ssim']:.4f} |" for name, values in figures.items()),
    ]


def learnt_to_restore(training: Mapping[str, Any]) -> bool:
    """Whether input was blurred, noisy and compressed; `training` is what config.json says."""
    return bool(training.get("config", {}).get("variants"))


def _made_for(training: Mapping[str, Any]) -> str:
    if learnt_to_restore(training):
        return (
            "Made for photographs as they come: a little out of focus, noisy, compressed as JPEG (quality 30 to 95). "
            "It smooths that away, and with it the finest detail of clean, sharp input; patterns of single pixels, as "
            "in a screenshot's dithering, are not for it."
        )
    return (
        "Made for clean, sharp input reduced by bicubic interpolation; noise, blur and compression are enlarged as "
        "they are."
    )


def _training(training: Mapping[str, Any]) -> list[str]:
    """Every entry of config.json's `training`, a line each; the run's settings on a line of their own."""
    settings = training.get("config", {})
    lines = []
    for key, value in training.items():
        if key not in ("config", "started_from"):
            shown = "; ".join(map(str, value)) if isinstance(value, list) else value
            lines.append(f"- {key.replace('_', ' ')}: {shown}")
    if settings:
        given = {key: value for key, value in settings.items() if value is not None}
        lines.append("- settings: " + ", ".join(f"{key} {_shown(value)}" for key, value in given.items()))
    if "started_from" in training:
        lines += ["", "Before that:", "", *_training(training["started_from"])]
    return lines or ["Unknown."]


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
