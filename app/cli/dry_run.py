"""`upscale --dry-run`: print what a run would do, how long it would take, and what would fail."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from ..words import format_count, format_duration, format_megabytes
from .terminal import print_json, print_line, print_table, say

if TYPE_CHECKING:
    from trinas.inference.cascade import CascadeUpscaler
    from trinas.inference.estimate import Estimate

    from .upscale import Batch

HEADERS = ["result", "size", "models", "seconds", "memory"]


def print_estimates(batch: "Batch", other_presets: "Mapping[str, CascadeUpscaler]", *, as_json: bool) -> None:
    """Print what a run would do.

    Args:
        batch: the images and the options.
        other_presets: upscalers of the presets that were not chosen, by name. Their times are printed too.
        as_json: print JSON instead of a table.
    Raises:
        typer.Exit: an image would fail; with exit code 1.
    """
    from trinas.inference.estimate import estimate_batch_memory_bytes, estimate_jobs

    estimates = list(
        estimate_jobs(
            batch.plan.jobs, batch.upscaler, batch.size, batch.save, batch.options, overwrite=batch.overwrite,
            alternatives=other_presets, opener=batch.decoders.open_image,
        )
    )  # fmt: skip
    seconds = {name: sum(estimate.alternatives.get(name, 0) for estimate in estimates) for name in other_presets}
    if as_json:
        files = [_estimate_to_json(estimate) for estimate in estimates]
        print_json({"files": files, "left_out": batch.left_out, "seconds_of_other_presets": seconds})
    else:
        skipped = len(batch.plan.jobs) - len(estimates)
        _print_estimates(estimates, skipped, estimate_batch_memory_bytes(estimates))
        if any(seconds.values()):
            words = ", ".join(f"{name} about {format_duration(each)}" for name, each in seconds.items())
            print_line(f"With another --preset: {words}.")
    if any(estimate.work is None for estimate in estimates):
        raise typer.Exit(1)


def _estimate_to_json(estimate: "Estimate") -> dict[str, Any]:
    row: dict[str, Any] = {"source": str(estimate.job.source), "result": str(estimate.job.result)}
    if estimate.work is None:
        return {**row, "problem": estimate.problem}
    row |= {"size": estimate.work.size, "models": estimate.work.models, "why": estimate.work.reason}
    return {**row, "seconds": estimate.seconds, "memory_mb": round(estimate.memory_bytes / 1e6)}


def _print_estimates(estimates: "list[Estimate]", skipped: int, memory_bytes: int) -> None:
    rows, problems, seconds = [], [], 0.0
    for estimate in estimates:
        if estimate.work is None:
            problems.append(estimate.problem)
        else:
            size = "x".join(map(str, estimate.work.size))
            reason = f" ({estimate.work.reason})" if estimate.work.reason else ""
            models = (", ".join(estimate.work.models) or "none") + reason
            memory = format_megabytes(estimate.memory_bytes)
            rows.append([str(estimate.job.result), size, models, f"{estimate.seconds:.1f}", memory])
            seconds += estimate.seconds
    if rows:
        print_table(rows, HEADERS, numbers=[3, 4], foldable=[0, 2])
    for problem in problems:
        say(f"will fail: {problem}")
    total = _describe_total(len(rows), seconds, memory_bytes)
    print_line(f"{total} {skipped:,} with a result already, {len(problems):,} will fail. Nothing was written.")


def _describe_total(images: int, seconds: float, memory_bytes: int) -> str:
    if not images:
        return "Nothing to upscale."
    together = " (several small images are in memory together)" if images > 1 else ""
    return (
        f"{format_count(images, 'image')} to upscale in about {format_duration(seconds)}, with up to "
        f"{format_megabytes(memory_bytes)} of memory{together}."
    )
