"""The card of a model, which is the README.md in its folder. It is made from config.json alone."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from trinas.networks.cost import compute_cost
from trinas.networks.space import ArchSpec
from trinas.text import shorten_text
from trinas.zoo.record import UNSPECIFIED, Metrics, ModelConfig, TrainingRecord

_MARKUP = re.compile(r"[\\`*<>\[\]|]")
"""Characters by which a text of a stranger would become markup: HTML, links, images, code, columns."""

_LONGEST_CELL = 200
"""Characters of a value in the recipe."""


def render_card(config: ModelConfig, called: str | None = None, example: str | None = None) -> str:
    """Return the card as Markdown: what the model is, what it was trained on, how good it is, and its limits.

    It begins with the front matter of the Hub: licence, kind of task and, as `model-index`, the metrics.

    Args:
        config: of the model.
        called: the name for `--model`; None: the model's name.
        example: name of an image file beside the card. It shows a detail by bicubic, by the network, and the original.
    """
    spec, name, training = config.spec, config.name, config.training
    cost = compute_cost(spec)
    lines = [
        "---",
        _render_front_matter(config),
        "---",
        "",
        f"# {_quote(name)}",
        "",
        f"Upscales photographs {spec.scale} times. {cost.params:,} parameters, "
        f"{cost.macs / 1e9:.2f} G multiply-adds for a 1280x720 output, receptive radius {cost.radius_px} pixels.",
        "",
        *([f"![A detail by bicubic, by this network, and the original]({example})", ""] if example else []),
        "```",
        f"trinas-upscale photos/ -s {spec.scale} --model {called or name}",
        "```",
        "",
        "## Metrics",
        "",
        *_render_metrics(spec.scale, config.metrics),
        "",
        "## Data",
        "",
        *_describe_data(training),
        "",
        "## Recipe",
        "",
        *_describe_recipe(name, training),
        "",
        "## Architecture",
        "",
        f"Family `{spec.family}`; the number behind the colon is the channels of a step's output.",
        "",
        "```",
        *draw_diagram(spec),
        "```",
        "",
        _describe_origin(training),
        "",
        "## Licence and limits",
        "",
        f"Weights: {_quote(config.licence)}.",
        "",
        f"{_describe_purpose(config)} It restores detail and does not invent any. The only scale is {spec.scale}.",
        "",
    ]
    return "\n".join(lines)


def _render_front_matter(config: ModelConfig) -> str:
    """Return the YAML that the Hub uses to sort and show models."""
    from huggingface_hub import EvalResult, ModelCardData  # slow to import

    scale = config.spec.scale
    results = [
        EvalResult(
            task_type="image-to-image",
            dataset_type=test_set,
            dataset_name=f"{test_set}, x{scale}",
            metric_type=metric,
            metric_value=round(value, 4),
        )
        for test_set, metrics in config.metrics.items()
        for metric, value in metrics
    ]
    licence = config.licence
    data = ModelCardData(
        license="unknown" if licence == UNSPECIFIED else licence.lower(),  # the Hub has SPDX names in lower case
        library_name="trinas",
        pipeline_tag="image-to-image",
        tags=["super-resolution", f"x{scale}"],
        metrics=["psnr", "ssim"] if results else None,
        model_name=config.name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml().strip()


def draw_diagram(spec: ArchSpec) -> list[str]:
    """Return the network from input to output. Each step is a line, with the channels of its output."""
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


def _render_metrics(scale: int, metrics: Mapping[str, Metrics]) -> list[str]:
    if not metrics:
        return ["Not measured on the test sets yet; `trinas-upscale evaluate` measures it."]
    return [
        f"On Y, from 8-bit images, {scale} pixels of border dropped; low-resolution images by MATLAB's bicubic.",
        "",
        "| set | PSNR, dB | SSIM |",
        "| --- | --- | --- |",
        *(f"| {_quote(name)} | {values.psnr:.2f} | {values.ssim:.4f} |" for name, values in metrics.items()),
    ]


def _describe_purpose(config: ModelConfig) -> str:
    if config.restores:
        return (
            "Made for ordinary photographs: a little out of focus, noisy, compressed as JPEG (quality 30 to 95). "
            "It removes noise and compression, and with them the finest detail of clean, sharp input. Not made for "
            "patterns of single pixels, such as the dithering of a screenshot."
        )
    return (
        "Made for clean, sharp input reduced by bicubic interpolation. Noise, blur and compression are upscaled like "
        "everything else."
    )


def _describe_data(training: TrainingRecord) -> list[str]:
    """Return lines about the training images of all stages, with known licences, and about added notes."""
    latest, *earlier = _list_data(training) or [[]]
    lines = [f"- {_quote(entry)}" for entry in latest]
    lines += [f"- before that: {_quote('; '.join(data))}" for data in earlier]
    for teacher, data in _list_teacher_data(training).items():
        others = [entry for entry in data if not any(entry in shown for shown in (latest, *earlier))]
        lines += [_quote(f"- its teacher {teacher} also from: {'; '.join(others)}")] if others else []
    lines += [_quote(f"- {key.replace('_', ' ')}: {value}") for key, value in training.notes.items()]
    lines = lines or ["Unknown."]
    if training.is_known("images"):
        lines += ["", f"{training.images:,} images; a tenth of them, 24 at most, only chose which weights were kept."]
    if training.data_sha256:
        lines.append(f"SHA-256 of the set: `{training.data_sha256.replace('`', '')}`.")
    if training.restores:
        lines.append(f"Each was blurred, made noisy and compressed in {_format(training.config['variants'])} ways.")
    return lines


def _list_data(training: TrainingRecord) -> list[list[str]]:
    """Return the training images of each stage, the last stage first. The same images are listed only once."""
    found: list[list[str]] = []
    seen: set[Any] = set()
    for stage in training.stages():
        if stage.data:
            names = {stage.data_sha256, tuple(stage.data)} - {""}
            if not names & seen:
                found.append(stage.data)
            seen |= names
    return found


def _list_teacher_data(training: TrainingRecord) -> dict[str, list[str]]:
    """Return the training images of each teacher by its name, in the order of the stages."""
    return {stage.taught_by.name: stage.taught_by.data for stage in _list_stages(training) if stage.taught_by}


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
"""Keys of a stage that the recipe shows -> headings of the columns."""


def _describe_recipe(name: str, training: TrainingRecord) -> list[str]:
    """Return a table of the stages in the order in which they were run, and all settings of the last one."""
    stages = [stage for stage in _list_stages(training) if stage.is_known("config") or stage.is_known("steps")]
    if not stages:
        return ["Unknown."]
    lines = [f"| stage | {' | '.join(STAGE_COLUMNS.values())} |", f"| --- |{' --- |' * len(STAGE_COLUMNS)}"]
    for stage in stages:
        known = {**stage.config, **stage.to_dict()}
        known["minutes"] = round(stage.seconds / 60) if stage.is_known("seconds") else None
        cells = ("-" if known.get(key) is None else _format(known[key]) for key in STAGE_COLUMNS)
        lines.append(f"| {_quote(name if stage is training else stage.name or '?')} | {' | '.join(cells)} |")
    several = len(stages) > 1
    if several:
        lines += [
            "",
            "Each stage starts from the best weights of the one above; at another scale only the trunk is kept.",
        ]
    settings = {key: value for key, value in training.config.items() if value not in (None, [])}
    if settings:
        shown = ", ".join(f"{_quote(key)} {_format(value)}" for key, value in settings.items())
        sentence = (
            f"Settings of the last stage: {shown}. config.json has those of all." if several else f"Settings: {shown}."
        )
        lines += ["", sentence]
    return lines


def _list_stages(training: TrainingRecord) -> Iterable[TrainingRecord]:
    """Return the stages in the order in which they were run."""
    return reversed(list(training.stages()))


def _describe_origin(training: TrainingRecord) -> str:
    """Return where the architecture comes from: the last search in the record, or the last note in it."""
    for stage in training.stages():
        if stage.method:
            keys = [key for key in ("space", "budgets", "supernet", "steps") if stage.is_known(key)]
            found = [f"{key} {getattr(stage, key)}" for key in keys]
            if stage.is_known("validation_psnr"):
                found.append(f"at its end {stage.validation_psnr} dB on validation")
            return _quote(f"Found by a {stage.method}: {'; '.join(found)}.")
        if stage.architecture:
            return _quote(f"Where it comes from: {stage.architecture}.")
    return "No search is part of the record: the training was given this architecture."


def _format(value: Any) -> str:
    """Return a value of a record as Markdown."""
    if isinstance(value, float):
        return f"{value:.4g}"
    is_count = isinstance(value, int) and not isinstance(value, bool)
    return f"{value:,}" if is_count else _quote(shorten_text(str(value), _LONGEST_CELL))


def _quote(text: str) -> str:
    """Return a text as Markdown that shows it as it is."""
    return _MARKUP.sub(r"\\\g<0>", text)
