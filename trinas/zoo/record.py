"""The content of config.json: a model's architecture, training and metrics."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from trinas.errors import ModelError, SpecError
from trinas.files import read_json
from trinas.networks.space import ArchSpec
from trinas.text import shorten_text

CONFIG_SCHEMA = 1
"""Version of config.json. Other versions are refused."""

MAX_CONFIG_BYTES = 1_000_000
"""A larger config.json is refused. Those of the bundled models have less than 10 KB."""

MAX_STAGES = 50
"""The most stages of a training record."""

MAX_NAME = 255
"""Characters of a model's name, which may be that of a folder, and of a licence."""

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Amount = Annotated[int | float, Field(ge=0)]

WEIGHTS_FILE, CONFIG_FILE, CARD_FILE = "model.safetensors", "config.json", "README.md"
EXAMPLE_FILE = "example.webp"
"""An image that shows what the network does. The cards of bundled models show it."""

UNSPECIFIED = "unspecified"
"""The licence of newly trained weights, because only the person who trained them knows what the images allow."""


class Metrics(BaseModel):
    """PSNR and SSIM on Y on one test set."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    psnr: float = Field(ge=0, le=100)
    """In dB."""
    ssim: float = Field(ge=-1, le=1)


class TeacherRecord(BaseModel):
    """The record of a teacher, which is a model that was imitated. Other keys are allowed."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    name: str
    sha256: str = ""
    """Digest of its weights."""
    data: list[str]
    """Names of all sets of images that it has learnt from."""


class TrainingRecord(BaseModel):
    """How weights were trained: one stage, with the stages before it in `started_from`.

    Every field may be missing. Other keys are allowed; cards list them with the data. The fields are in the order of
    config.json.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    name: str = ""
    """The model that came out of this stage. It is missing in the last stage, since the model itself has a name."""
    sha256: str = ""
    """Digest of the weights that came out of this stage."""
    architecture: str = ""
    """A note on where the architecture comes from."""
    method: str = ""
    """The search method, if this stage is a search."""
    space: str = ""
    """The search space, in words."""
    budgets: str = ""
    """The search's budgets, in words."""
    supernet: str = ""
    """The supernet that the search started from."""
    data: list[str] = []
    """Names of the sets of training images, with their licences if these are known."""
    images: Amount = 0
    data_sha256: str = ""
    """Digest of all training images."""
    steps: int | float | str = 0
    """Optimiser steps; for a search the steps of its stages, such as "900 + 5000"."""
    seconds: Amount = 0
    validation_psnr: int | float = 0
    """In dB."""
    config: dict[str, JsonValue] = {}
    """The settings of the stage, as in `TrainConfig`."""
    started_from: "TrainingRecord | None" = None
    """The stage whose weights this one started from."""
    taught_by: TeacherRecord | None = None
    """The teacher of this stage."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_missing(cls, values: Any) -> Any:
        """Leave out None and empty records, so that they are not written."""
        if not isinstance(values, dict):
            return values
        nested = ("started_from", "taught_by")
        return {
            key: value for key, value in values.items() if value is not None and not (key in nested and value == {})
        }

    @field_validator("config", mode="before")
    @classmethod
    def _as_json(cls, value: Any) -> Any:
        """Turn the tuples of a `TrainConfig` into lists, as JSON has them."""
        return json.loads(json.dumps(value)) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _count_stages(self) -> "TrainingRecord":
        if len(list(self.stages())) > MAX_STAGES:
            raise ValueError(f"a record of more than {MAX_STAGES} stages is too long")
        return self

    @property
    def restores(self) -> bool:
        """Whether the model was trained on degraded images, and so removes noise and compression."""
        return bool(self.config.get("variants"))

    @property
    def notes(self) -> dict[str, JsonValue]:
        """Keys and values that were added by hand."""
        return dict(self.model_extra or {})

    def is_known(self, key: str) -> bool:
        """Return whether the record has a value for `key`."""
        return key in self.model_fields_set

    def stages(self) -> Iterator["TrainingRecord"]:
        """Yield this stage and the stages before it, the last stage first."""
        stage: TrainingRecord | None = self
        while stage is not None:
            yield stage
            stage = stage.started_from

    def to_dict(self) -> dict[str, Any]:
        """Return the known fields as JSON values, in the order of config.json."""
        return self.model_dump(mode="json", exclude_unset=True)


@dataclass(frozen=True)
class ModelConfig:
    """The content of config.json."""

    name: str
    spec: ArchSpec
    licence: str
    training: TrainingRecord = field(default_factory=TrainingRecord)
    """How the weights were trained."""
    metrics: dict[str, Metrics] = field(default_factory=dict)
    """Test set -> PSNR and SSIM, measured by the field's protocol."""

    @property
    def restores(self) -> bool:
        """Whether it is a restoration model: it was trained on degraded images, and removes noise and compression."""
        return self.training.restores

    def to_json(self) -> str:
        """Return the text of config.json."""
        return json.dumps(
            {
                "schema": CONFIG_SCHEMA,
                "name": self.name,
                "spec": self.spec.to_dict(),
                "licence": self.licence,
                "training": self.training.to_dict(),
                "figures": {test_set: metrics.model_dump() for test_set, metrics in self.metrics.items()},
            },
            indent=2,
        )


class _ConfigFile(BaseModel):
    """The keys of config.json in this version."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_: Literal[1] = Field(alias="schema")
    name: Name
    spec: ArchSpec
    licence: Name
    training: TrainingRecord
    figures: Annotated[dict[Name, Metrics], Field(max_length=100)]

    @field_validator("spec", mode="plain")
    @classmethod
    def _read_spec(cls, value: Any) -> ArchSpec:
        try:
            return ArchSpec.from_dict(value)
        except SpecError as error:
            raise ValueError(str(error)) from None


def read_config(folder: Path) -> ModelConfig:
    """Read the config.json of a model folder.

    Raises:
        ModelError: the file cannot be read, or this version does not know it; the message names the file and the key.
    """
    path = folder / CONFIG_FILE
    try:
        data = read_json(path, MAX_CONFIG_BYTES)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from None
    found = data.get("schema") if isinstance(data, dict) else None
    if found != CONFIG_SCHEMA:
        raise ModelError(
            f"{path}: schema {shorten_text(repr(found), 60)}, this version reads {CONFIG_SCHEMA}; a newer "
            "trinas-upscale may be needed"
        )
    try:
        known = _ConfigFile.model_validate(data)
    except ValidationError as error:
        raise ModelError(f"{path}: {shorten_text(_describe(error))}") from None
    return ModelConfig(known.name, known.spec, known.licence, known.training, known.figures)


def _describe(error: ValidationError) -> str:
    """Return in one line what is wrong, with the keys that lead to it."""
    first = error.errors(include_url=False, include_input=False)[0]
    location = [str(part) for part in first["loc"]]
    if len(location) > 1 and location[-1] in ("int", "float", "str"):  # one of several allowed types
        return f"{'.'.join(location[:-1])}: the value has a wrong type"
    key = ".".join(location)
    if first["type"] in ("missing", "extra_forbidden"):
        return f"the key {key} is {'missing' if first['type'] == 'missing' else 'unknown'}"
    return f"{key}: {first['msg'].removeprefix('Value error, ')}"
