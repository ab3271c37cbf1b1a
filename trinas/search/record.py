"""What a search says about itself: events while it runs (events.jsonl), and a record at its end (report.json)."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)

from trinas.config import Budgets, SearchConfig
from trinas.errors import RunError, SpecError
from trinas.files import translate_os_errors, write_atomically
from trinas.networks.space import ArchSpec, SearchSpace

STAGES = ("warm-up", "search", "fine-tune")

EVENTS_FILE, SEARCH_RECORD_FILE = "events.jsonl", "report.json"

SAMPLE_FILES = {
    "bicubic": "sample-bicubic.png",
    "this network": "sample-network.png",
    "the original": "sample-original.png",
}
"""The same place of a held-out image, three ways: caption -> file in the run folder."""

OTHER_VERSION = "or of another version of trinas-upscale"


def read_settings(stored: Mapping[str, Any]) -> SearchConfig:
    """Return the settings that `dataclasses.asdict` turned into plain values, of this version or an earlier one.

    Raises:
        TypeError: a name is unknown, or the budgets are missing.
        ValueError: a value is not allowed.
    """
    settings = dict(stored)
    settings.pop("order_weight", None)  # was a setting while ablations were part of the library
    if "score_rate" in settings:
        settings["arch_rate"] = settings.pop("score_rate")
    steps = settings.get("steps")
    settings |= {
        "budgets": Budgets(**settings.pop("budgets", {})),
        "steps": tuple(steps) if isinstance(steps, list) else steps,
        "shortened": tuple((after, count) for after, count in settings.get("shortened", ())),
    }
    return SearchConfig(**settings)


T = TypeVar("T")


def _reader(kind: type[T], build: Callable[[Any], T]) -> PlainValidator:
    """Return a validator that builds a value of `kind` from JSON data, and keeps one that is built already."""

    def read(value: object) -> T:
        if isinstance(value, kind):
            return value
        try:
            return build(value)
        except (TypeError, AttributeError, SpecError) as error:
            raise ValueError(str(error)) from None

    return PlainValidator(read)


def _read_space(stored: Mapping[str, Any]) -> SearchSpace:
    return SearchSpace(**stored)


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


SpaceField = Annotated[SearchSpace, _reader(SearchSpace, _read_space), PlainSerializer(asdict)]
SettingsField = Annotated[SearchConfig, _reader(SearchConfig, read_settings), PlainSerializer(asdict)]
SpecField = Annotated[ArchSpec, _reader(ArchSpec, ArchSpec.from_dict), PlainSerializer(ArchSpec.to_dict)]
MaybeNumber = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    PlainSerializer(_finite_or_none),
]
"""A float that can be NaN; JSON has no word for that, so files hold null."""
AnnealField = Annotated[float, Field(validation_alias=AliasChoices("anneal", "t"))]
"""Earlier versions called it t."""


class _Typed(BaseModel):
    """A value that is read from and written to a file; it does not change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MixtureShares(_Typed):
    """The mixtures of every decision as plain numbers; rows follow `SearchSpace.cell_nodes`."""

    path: list[float]
    """One share per candidate."""
    primitives: list[list[list[float]]]
    """Cells, slots, primitives."""
    widths: list[list[list[float]]]
    """Cells, slots but the last, widths."""


class SearchStarted(_Typed):
    """A search begins."""

    event: Literal["SearchStarted"] = "SearchStarted"
    space: SpaceField
    """The search chooses among its networks."""
    budgets: dict[str, float]
    started_from: str
    """Name of a pretrained supernet, or noise."""


class StageStarted(_Typed):
    """A stage begins; its number of steps is fixed from here on."""

    event: Literal["StageStarted"] = "StageStarted"
    stage: str
    """One of STAGES."""
    steps: int


class SearchProgress(_Typed):
    """Where a search stands."""

    event: Literal["Progress"] = "Progress"
    stage: str
    """One of STAGES."""
    step: int
    steps: int
    """All steps of this stage."""
    anneal: AnnealField
    """0: mixtures are free; 1: every decision is taken."""
    loss: MaybeNumber
    """Loss of the latest step; in fine-tuning the running mean that training reports."""
    psnr: MaybeNumber
    """Last validation in dB on Y: of the mixture, later of the network; NaN before the first one."""
    validated: bool
    """Whether this step was validated."""
    costs: dict[str, float]
    """Expected costs by name."""
    budgets: dict[str, float]
    steps_per_second: MaybeNumber
    seconds_left: MaybeNumber
    """Seconds left of the run where it was given time, else of this stage; NaN while unknown."""
    mixtures: MixtureShares | None = None
    """Only after a validated step of the supernet."""


class ArchitectureChosen(_Typed):
    """Every decision is taken and meets the budgets; fine-tuning follows."""

    event: Literal["ArchitectureChosen"] = "ArchitectureChosen"
    spec: SpecField
    costs: dict[str, float]


class Finished(_Typed):
    """The run folder holds a trained model."""

    event: Literal["Finished"] = "Finished"
    psnr: MaybeNumber
    """Best validation, dB on Y."""
    costs: dict[str, float]
    seconds: float


Event = SearchStarted | StageStarted | SearchProgress | ArchitectureChosen | Finished

_EVENT_READER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def read_events(run_dir: Path) -> list[Event]:
    """Return what a search has reported so far; a last line that is still being written is left out.

    Raises:
        RunError: the file cannot be read, or a line is not an event.
    """
    path = run_dir / EVENTS_FILE
    with translate_os_errors(RunError, path, "read"):
        lines = path.read_bytes().splitlines(keepends=True)
    try:
        return [_EVENT_READER.validate_json(line) for line in lines if line.endswith(b"\n")]
    except ValidationError:
        raise RunError(f"{path}: does not hold the events of a search, {OTHER_VERSION}") from None


def count_stage_steps(events: Iterable[Event]) -> dict[str, int]:
    """Return the steps of each stage that has begun; a fine-tuning may have been given fewer on the way."""
    return {event.stage: event.steps for event in events if isinstance(event, StageStarted | SearchProgress)}


class EventLog:
    """Hands events on, and writes all but unvalidated progress to events.jsonl, a JSON object a line.

    Attributes:
        count: lines that are written.
    """

    def __init__(self, path: Path, on_event: Callable[[Event], None], count: int) -> None:
        """
        Args:
            count: lines of an earlier part of the run that are kept; later ones are dropped, since the run repeats
                what they reported.
        Raises:
            RunError: the file cannot be read or written.
        """
        self._path, self._on_event, self.count = path, on_event, count
        if count or path.exists():
            with translate_os_errors(RunError, path, "read and written"):
                lines = path.read_bytes().splitlines(keepends=True)[:count]
                write_atomically(path, b"".join(lines))

    def __call__(self, event: Event) -> None:
        if not isinstance(event, SearchProgress) or event.validated:
            line = json.dumps(event.model_dump(mode="json")) + "\n"
            with (
                translate_os_errors(RunError, self._path, "written", "resume once it can"),
                self._path.open("a", encoding="utf-8") as file,
            ):
                file.write(line)
            self.count += 1
        self._on_event(event)


class ModelOrigin(_Typed):
    """A model that a network has learnt from: the supernet it started from, or its teacher."""

    name: str
    sha256: str
    """SHA-256 of its weights."""
    data: list[str]
    """All that it has learnt from itself."""


def _check_stages(steps: dict[str, int]) -> dict[str, int]:
    if set(steps) != set(STAGES):
        raise ValueError(f"steps must be of {', '.join(STAGES)}")
    return steps


def _none_if_empty(value: object) -> object:
    return value or None


def _origin_to_dict(origin: ModelOrigin | None) -> dict[str, Any]:
    return {} if origin is None else origin.model_dump()


OriginField = Annotated[ModelOrigin | None, BeforeValidator(_none_if_empty), PlainSerializer(_origin_to_dict)]
"""Files hold an empty object where there is none."""


class MeasuredTimes(_Typed):
    """What was measured because time has a budget."""

    slot_ms: list[list[list[float]]] | None = None
    """As `latency.measure_slot_times` returns it; None: time has no budget."""
    base_ms: float = 0.0
    """Milliseconds per megapixel of output of the network without cells."""
    slowdowns: tuple[float, ...] = ()
    """Measured over expected time of each network that was too slow."""


class StepTime(_Typed):
    """How long steps of the search took on the way."""

    anneal: AnnealField
    seconds: float
    """Mean time of a step since the validation before."""


class BatchSize(_Typed):
    """What a step of the fine-tuning learns from."""

    batch_size: int
    patch_px: int
    """Side of a patch in low-resolution pixels."""


class LearntImages(_Typed):
    """The images that a search has learnt from and validated on."""

    folders: list[str]
    images: int
    sha256: str
    """`data.fingerprint` of all images."""


class NetworkTime(_Typed):
    """Milliseconds per megapixel of output."""

    expected: float | None
    """By the table of slots; None where time has no budget."""
    measured: float


class Precisions(_Typed):
    """fp32 or bf16, while training and while upscaling."""

    training: str
    running: str


class SearchRecord(_Typed):
    """What a finished search says about itself: enough to repeat it, and what came of it."""

    space: SpaceField
    settings: SettingsField
    started_from: OriginField
    """The pretrained supernet; None: noise."""
    taught_by: OriginField
    rates: dict[str, float]
    """Rates of the optimisers, by what they move."""
    fine_tuning: BatchSize
    steps: Annotated[dict[str, int], AfterValidator(_check_stages)]
    """Steps by stage."""
    shortened: tuple[tuple[int, int], ...]
    """As `TrainConfig.shortened`, of the fine-tuning."""
    budgets: dict[str, float]
    results: dict[str, float]
    """Costs of the network, by name."""
    spec: SpecField
    weights_sha256: str
    validation_psnr: float
    bicubic_psnr: float
    """PSNR of bicubic upscaling on the same images."""
    ms_per_mp: NetworkTime
    times: MeasuredTimes
    step_seconds: tuple[StepTime, ...]
    seconds: int
    data: LearntImages
    device: str
    precision: Precisions
    threads: int
    versions: dict[str, str]


def write_search_record(run_dir: Path, record: SearchRecord) -> None:
    """Write report.json.

    Raises:
        RunError: it cannot be written.
    """
    content = json.dumps(record.model_dump(mode="json"), indent=2) + "\n"
    with translate_os_errors(RunError, run_dir, "written", "resume once it can"):
        write_atomically(run_dir / SEARCH_RECORD_FILE, content.encode())


def read_search_record(path: Path) -> SearchRecord:
    """Read the report.json of a finished search.

    Raises:
        RunError: there is no such file, or it is not the record of a search.
    """
    with translate_os_errors(RunError, path, "read"):
        content = path.read_bytes()
    try:
        return SearchRecord.model_validate_json(content)
    except ValidationError as error:
        problems = error.errors()
    if all(problem["type"] == "missing" for problem in problems):
        raise RunError(f"{path}: the report lacks {', '.join(_list_places(problems))}")
    raise RunError(f"{path}: is not the report of a search, {OTHER_VERSION}")


def _list_places(problems: Sequence[Any]) -> list[str]:
    return sorted({".".join(map(str, problem["loc"])) for problem in problems})
