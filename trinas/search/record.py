"""The events that a search reports while it runs (events.jsonl), and its record at the end (report.json)."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
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
    model_validator,
)

from trinas.config import Budgets, SearchConfig
from trinas.errors import RunError, SpecError
from trinas.files import parse_json, read_json, translate_os_errors, write_atomically
from trinas.networks.space import ArchSpec, SearchSpace
from trinas.text import shorten_text

STAGES = ("warm-up", "search", "fine-tune")

EVENTS_FILE, SEARCH_RECORD_FILE = "events.jsonl", "report.json"

MAX_RECORD_BYTES = 50_000_000
"""A larger report.json is refused. With times of all slots, it has some hundred kilobytes."""

SAMPLE_FILES = {
    "bicubic": "sample-bicubic.png",
    "this network": "sample-network.png",
    "the original": "sample-original.png",
}
"""Caption -> file in the run folder. The files show the same place of a held-out image in three ways."""

OTHER_VERSION = "or of another version of trinas-upscale"


def read_settings(stored: Mapping[str, Any]) -> SearchConfig:
    """Return the settings from the plain values that `dataclasses.asdict` makes, in this version or an earlier one.

    Raises:
        TypeError: a name is unknown, or the budgets are missing.
        ValueError: a value is not allowed, or has another type.
    """
    settings = dict(stored)
    settings.pop("order_weight", None)  # a setting of earlier versions, for ablations
    if "score_rate" in settings:
        settings["arch_rate"] = settings.pop("score_rate")
    steps = settings.get("steps")
    settings |= {
        "budgets": Budgets(**settings.pop("budgets", {})),
        "steps": tuple(steps) if isinstance(steps, list) else steps,
        "shortened": tuple((after, count) for after, count in settings.get("shortened", ())),
    }
    config = SearchConfig(**settings)
    # This only checks the types: it turns whole numbers into floats, and these into other records.
    _SETTINGS_CHECKER.validate_json(json.dumps(asdict(config)), strict=True)
    return config


_SETTINGS_CHECKER = TypeAdapter(SearchConfig)


T = TypeVar("T")


def _reader(kind: type[T], build: Callable[[Any], T]) -> PlainValidator:
    """Return a validator that builds a value of `kind` from JSON data, and keeps a value that is built already."""

    def read(value: object) -> T:
        if isinstance(value, kind):
            return value
        try:
            return build(value)
        except (TypeError, AttributeError, SpecError) as error:
            raise ValueError(shorten_text(str(error))) from None

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
"""A float that can be NaN. JSON has no NaN, so files hold null."""
AnnealField = Annotated[float, Field(validation_alias=AliasChoices("anneal", "t"))]
"""Files of earlier versions call it t."""


def _check_stage(stage: str) -> str:
    if stage not in STAGES:
        raise ValueError(f"a stage is one of {', '.join(STAGES)}")
    return stage


def _check_limits(budgets: dict[str, float]) -> dict[str, float]:
    names = {field.name for field in fields(Budgets)}
    if not budgets or not budgets.keys() <= names or min(budgets.values()) <= 0:
        raise ValueError(f"budgets are positive, and of {', '.join(sorted(names))}")
    return budgets


Stage = Annotated[str, AfterValidator(_check_stage)]
"""One of STAGES."""
Count = Annotated[int, Field(ge=0)]
Limits = Annotated[dict[str, float], AfterValidator(_check_limits)]
"""Budgets by name. There is at least one."""


class _Typed(BaseModel):
    """An immutable value that is read from a file and written to one."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _check_known(budgets: Mapping[str, float], costs: Mapping[str, float]) -> None:
    if not budgets.keys() <= costs.keys():
        raise ValueError("a budget has no cost")


class MixtureShares(_Typed):
    """The mixtures of all decisions as plain numbers. Rows follow `SearchSpace.cell_nodes`."""

    path: list[float]
    """One share for each candidate."""
    primitives: list[list[list[float]]]
    """Cells, slots, primitives."""
    widths: list[list[list[float]]]
    """Cells, slots except the last, widths."""

    def fits(self, space: SearchSpace) -> bool:
        """Return whether these are mixtures of a space. An earlier version of it may have had fewer primitives."""
        cells, slots, widths = len(space.cell_nodes), space.slots, len(space.widths)
        return (
            len(self.path) == len(space.candidates)
            and [len(cell) for cell in self.primitives] == [slots] * cells
            and [[len(slot) for slot in cell] for cell in self.widths] == [[widths] * (slots - 1)] * cells
        )


class SearchStarted(_Typed):
    """A search begins."""

    event: Literal["SearchStarted"] = "SearchStarted"
    space: SpaceField
    """The networks to choose among."""
    budgets: Limits
    started_from: str
    """Name of the pretrained supernet, or "noise"."""


class StageStarted(_Typed):
    """A stage begins. Its number of steps is now fixed."""

    event: Literal["StageStarted"] = "StageStarted"
    stage: Stage
    steps: Count


class SearchProgress(_Typed):
    """How far a search has come."""

    event: Literal["Progress"] = "Progress"
    stage: Stage
    step: Count
    steps: Count
    """All steps of this stage."""
    anneal: AnnealField
    """From 0, where mixtures are free, to 1, where every decision is taken."""
    loss: MaybeNumber
    """Loss of the last step; in fine-tuning, the running mean that the training reports."""
    psnr: MaybeNumber
    """Last validation, in dB on Y, of the mixture and later of the network; NaN before the first validation."""
    validated: bool
    """Whether this step was validated."""
    costs: dict[str, float]
    """Expected costs by name, of all budgets at least."""
    budgets: Limits
    steps_per_second: MaybeNumber
    seconds_left: MaybeNumber
    """Of the run if its time is given, otherwise of this stage; NaN while unknown."""
    mixtures: MixtureShares | None = None
    """Only given for validated steps of the supernet."""

    @model_validator(mode="after")
    def _check_costs(self) -> "SearchProgress":
        _check_known(self.budgets, self.costs)
        return self


class ArchitectureChosen(_Typed):
    """Every decision is taken, and the network meets the budgets. Fine-tuning follows."""

    event: Literal["ArchitectureChosen"] = "ArchitectureChosen"
    spec: SpecField
    costs: dict[str, float]


class Finished(_Typed):
    """The run folder holds a trained model."""

    event: Literal["Finished"] = "Finished"
    psnr: MaybeNumber
    """Best validation, in dB on Y."""
    costs: dict[str, float]
    seconds: float


Event = SearchStarted | StageStarted | SearchProgress | ArchitectureChosen | Finished

_EVENT_READER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def read_events(run_dir: Path) -> list[Event]:
    """Return the events that a search has reported so far. A last line that is still being written is left out.

    Raises:
        RunError: the file cannot be read, or a line is not an event.
    """
    path = run_dir / EVENTS_FILE
    with translate_os_errors(RunError, path, "read"):
        lines = path.read_bytes().splitlines(keepends=True)
    try:
        return [_EVENT_READER.validate_python(parse_json(line)) for line in lines if line.endswith(b"\n")]
    except ValueError:
        raise RunError(f"{path}: does not hold the events of a search, {OTHER_VERSION}") from None


def read_story(run_dir: Path) -> list[Event]:
    """Return the events so far as `read_events`, and refuse those that do not go together and cannot be drawn.

    Raises:
        RunError: as for `read_events`, or the events do not go together.
    """
    events = read_events(run_dir)
    if not _go_together(events):
        raise RunError(f"{run_dir / EVENTS_FILE}: its events do not go together; it was changed or mixed up")
    return events


def _go_together(events: Sequence[Event]) -> bool:
    """Return whether the first event, and it alone, is the start, stages begin in order, and mixtures fit the space."""
    if not events:
        return True
    start, *others = events
    if not isinstance(start, SearchStarted) or any(isinstance(event, SearchStarted) for event in others):
        return False
    begun: list[str] = []
    for event in others:
        if isinstance(event, StageStarted):
            begun.append(event.stage)
        elif isinstance(event, SearchProgress):
            is_fit = event.mixtures is None or event.mixtures.fits(start.space)
            if event.stage not in begun or not is_fit:
                return False
    return tuple(dict.fromkeys(begun)) == STAGES[: len(set(begun))]


def count_stage_steps(events: Iterable[Event]) -> dict[str, int]:
    """Return the latest number of steps of each stage that has begun. That of fine-tuning may have been reduced."""
    return {event.stage: event.steps for event in events if isinstance(event, StageStarted | SearchProgress)}


class EventLog:
    """Hands events on, and writes them to events.jsonl, one JSON object a line.

    Progress without a validation is not written.

    Attributes:
        count: number of lines in the file.
    """

    def __init__(self, path: Path, on_event: Callable[[Event], None], count: int) -> None:
        """Open the log, and drop the lines that a resumed run will report again.

        Args:
            path: events.jsonl of the run folder.
            on_event: called with each event.
            count: lines to keep, from an earlier part of the run.
        Raises:
            RunError: the file cannot be read or written.
        """
        self._path, self._on_event, self.count = path, on_event, count
        if count or path.exists():
            with translate_os_errors(RunError, path, "read and written"):
                lines = path.read_bytes().splitlines(keepends=True)[:count]
                write_atomically(path, b"".join(lines))

    def add(self, event: Event) -> None:
        """Hand an event on, and write it. Progress without a validation is not written.

        Raises:
            RunError: the file cannot be written.
        """
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
    """Everything that the model itself has learnt from."""


def _check_stages(steps: dict[str, int]) -> dict[str, int]:
    if set(steps) != set(STAGES):
        raise ValueError(f"steps must be of {', '.join(STAGES)}")
    return steps


def _none_if_empty(value: object) -> object:
    return value or None


def _origin_to_dict(origin: ModelOrigin | None) -> dict[str, Any]:
    return {} if origin is None else origin.model_dump()


OriginField = Annotated[ModelOrigin | None, BeforeValidator(_none_if_empty), PlainSerializer(_origin_to_dict)]
"""Files hold an empty object in place of None."""


class MeasuredTimes(_Typed):
    """The times that a budget of time needs."""

    slot_ms: list[list[list[float]]] | None = None
    """From `latency.measure_slot_times`; None: there is no budget of time."""
    base_ms: float = 0.0
    """Milliseconds per megapixel of output of the network without cells."""
    slowdowns: tuple[float, ...] = ()
    """Measured over expected time of each network that was too slow."""


class StepTime(_Typed):
    """How long a step of the search took at some anneal."""

    anneal: AnnealField
    seconds: float
    """Mean time of a step since the previous validation."""


class BatchSize(_Typed):
    """The size of a batch."""

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
    """By the table of slots; None: there is no budget of time."""
    measured: float


class Precisions(_Typed):
    """Precisions, fp32 or bf16."""

    training: str
    running: str
    """While upscaling."""


class SearchRecord(_Typed):
    """The record of a finished search: everything that is needed to repeat it, and its results."""

    space: SpaceField
    settings: SettingsField
    started_from: OriginField
    """The pretrained supernet; None: noise."""
    taught_by: OriginField
    """The teacher; None: there was none."""
    rates: dict[str, float]
    """Rates of the optimisers, by what they train."""
    fine_tuning: BatchSize
    steps: Annotated[dict[str, int], AfterValidator(_check_stages)]
    """Steps by stage."""
    shortened: tuple[tuple[int, int], ...]
    """As `TrainConfig.shortened`, for the fine-tuning."""
    budgets: Limits
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
    primitives: tuple[str, ...] | None = None
    """The space's candidates of a slot; None in records of earlier versions."""

    @model_validator(mode="after")
    def _check_results(self) -> "SearchRecord":
        _check_known(self.budgets, self.results)
        return self


def write_search_record(run_dir: Path, record: SearchRecord) -> None:
    """Write report.json.

    Raises:
        RunError: the file cannot be written.
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
        try:
            return SearchRecord.model_validate(read_json(path, MAX_RECORD_BYTES))
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False, include_context=False)
        except ValueError as error:
            raise RunError(f"{path}: is not the report of a search ({error})") from None
    if all(problem["type"] == "missing" for problem in problems):
        raise RunError(f"{path}: the report lacks {shorten_text(', '.join(_list_places(problems)))}")
    raise RunError(f"{path}: is not the report of a search, {OTHER_VERSION}")


def _list_places(problems: Sequence[Any]) -> list[str]:
    return sorted({".".join(map(str, problem["loc"])) for problem in problems})
