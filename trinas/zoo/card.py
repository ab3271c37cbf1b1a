"""The card of a model: the README.md in its folder, made from config.json alone."""

from collections.abc import Mapping
from typing import Any

from trinas.networks.cost import spec_cost
from trinas.networks.space import ArchSpec

UNSPECIFIED = "unspecified"
"""The licence of weights that somebody has just trained: only they know what the photographs allow."""


def model_card(
    name: str,
    spec: ArchSpec,
    licence: str,
    training: Mapping[str, Any],
    figures: Mapping[str, Mapping[str, float]],
    called: str | None = None,
    picture: str | None = None,
) -> str:
    """Markdown that says what a model is, what it was trained on, how good it is and what it cannot do.

    It begins with the Hub's front matter: licence, kind of task and, as `model-index`, the figures.

    Args:
        called: what `--model` takes; None: the name.
        picture: a file beside the card that shows a detail by bicubic, by the network, and as it was.
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
        *([f"![A detail by bicubic, by this network, and as it was]({picture})", ""] if picture else []),
        "```",
        f"trinas-upscale photos/ -s {spec.scale} --model {called or name}",
        "```",
        "",
        "## Figures",
        "",
        *_figures(spec.scale, figures),
        "",
        "## Data",
        "",
        *_data(training),
        "",
        "## Recipe",
        "",
        *_recipe(name, training),
        "",
        "## Architecture",
        "",
        f"Family `{spec.family}`; what each step hands on is behind the colon.",
        "",
        "```",
        *diagram(spec),
        "```",
        "",
        _origin(training),
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
        license="unknown" if licence == UNSPECIFIED else licence.lower(),  # the Hub's names are SPDX's in lower case
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


SHOWN_ELSEWHERE = {
    "architecture", "budgets", "config", "data", "data_sha256", "images", "method", "name", "seconds", "space",
    "started_from", "steps", "supernet", "taught_by", "validation_psnr",
}  # fmt: skip
"""Keys of config.json's `training` that the card has a place for; others are listed under its data."""


def _data(training: Mapping[str, Any]) -> list[str]:
    """What it has learnt from, with licences where they are known, and what else somebody wrote down."""
    latest, *earlier = _data_of_stages(training) or [[]]
    lines = [f"- {entry}" for entry in latest]
    lines += [f"- before that: {'; '.join(data)}" for data in earlier]
    teachers = {
        stage["taught_by"]["name"]: stage["taught_by"]["data"]
        for stage in _stages("", training)
        if "taught_by" in stage
    }
    for teacher, data in teachers.items():
        others = [entry for entry in data if not any(entry in shown for shown in (latest, *earlier))]
        lines += [f"- its teacher {teacher} also from: {'; '.join(others)}"] if others else []
    lines += [f"- {key.replace('_', ' ')}: {value}" for key, value in training.items() if key not in SHOWN_ELSEWHERE]
    lines = lines or ["Unknown."]
    if "images" in training:
        lines += [
            "",
            f"{training['images']:,} images; a tenth of them, 24 at most, only chose which weights were kept.",
        ]
    if "data_sha256" in training:
        lines.append(f"SHA-256 of the set: `{training['data_sha256']}`.")
    if learnt_to_restore(training):
        ways = training["config"]["variants"]
        lines.append(f"Each was blurred, made noisy and compressed in {ways} ways.")
    return lines


def _data_of_stages(training: Mapping[str, Any]) -> list[list[str]]:
    """What the stages have learnt from, the last one first; the same images, or what is called the same, once."""
    found: list[list[str]] = []
    known: set[Any] = set()
    for stage in reversed(_stages("", training)):
        if stage.get("data"):
            names = {stage.get("data_sha256"), tuple(stage["data"])} - {None}
            if not names & known:
                found.append(stage["data"])
            known |= names
    return found


STAGE_COLUMNS = {
    "images": "images",
    "steps": "steps",
    "batch_size": "batch",
    "patch_px": "patch, px",
    "learning_rate": "peak rate",
    "l2_share": "share on squared error",
    "teacher": "teacher",
    "minutes": "minutes",
    "validation_psnr": "validation, dB",
}
"""What is shown of each stage of a training."""


def _recipe(name: str, training: Mapping[str, Any]) -> list[str]:
    """The stages in the order they were run, and all settings of the last one."""
    stages = [stage for stage in _stages(name, training) if "config" in stage or "steps" in stage]
    if not stages:
        return ["Unknown."]
    lines = [f"| stage | {' | '.join(STAGE_COLUMNS.values())} |", f"| --- |{' --- |' * len(STAGE_COLUMNS)}"]
    for stage in stages:
        known = {**stage.get("config", {}), **stage}
        known["minutes"] = round(stage["seconds"] / 60) if "seconds" in stage else None
        cells = ("-" if known.get(key) is None else _shown(known[key]) for key in STAGE_COLUMNS)
        lines.append(f"| {stage['name']} | {' | '.join(cells)} |")
    several = len(stages) > 1
    if several:
        lines += ["", "Each goes on from the best weights of the one above; another scale keeps the trunk."]
    settings = {key: value for key, value in training.get("config", {}).items() if value not in (None, [])}
    if settings:
        shown = ", ".join(f"{key} {_shown(value)}" for key, value in settings.items())
        told = f"Settings of the last: {shown}. config.json has those of all." if several else f"Settings: {shown}."
        lines += ["", told]
    return lines


def _stages(name: str, training: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What config.json's `training` says of each stage, the first one first, each with the name of what it left."""
    stages = [{**training, "name": name}]
    while "started_from" in stages[-1]:
        stages.append(stages[-1]["started_from"])
    return [{"name": "?", **stage} for stage in reversed(stages)]


def _origin(training: Mapping[str, Any]) -> str:
    """Where the architecture comes from: the search in the record, a note in it, or nothing."""
    for stage in _stages("", training):
        if "method" in stage:
            found = [f"{key} {stage[key]}" for key in ("space", "budgets", "supernet", "steps") if key in stage]
            if "validation_psnr" in stage:
                found.append(f"at its end {stage['validation_psnr']} dB on validation")
            return f"Found by a {stage['method']}: {'; '.join(found)}."
        if "architecture" in stage:
            return f"Where it comes from: {stage['architecture']}."
    return "No search is part of the record: the training was given this architecture."


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
