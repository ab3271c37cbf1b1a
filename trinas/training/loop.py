"""Train a derived network: resumable, bit-exact on the CPU, one visible loop."""

import copy
import dataclasses
import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trinas.config import TrainConfig, UpscaleOptions
from trinas.device import autocast, pick_device, resolve_training_precision, synchronize
from trinas.errors import InconsistentResultError, ModelError, RunError
from trinas.files import HIDDEN, write_atomically
from trinas.inference.tiled import TiledUpscaler
from trinas.networks.network import Frame, Network
from trinas.networks.space import ArchSpec
from trinas.reports.charts import line_plot
from trinas.search.record import EVENTS_FILE
from trinas.training.data import Patches, Photograph, Teacher, check_sizes, fingerprint, image_pairs, split
from trinas.training.metrics import Pixels, psnr_y
from trinas.training.muon import Muon
from trinas.training.state import STATE_FILE, held, load_state, save_state
from trinas.zoo.folder import UNSPECIFIED, Model, ModelConfig, TrainingRecord, load_model, save_model

METRICS_FILE, CURVE_FILE = "metrics.jsonl", "curve.png"

REPORT_EVERY = 20
"""Steps between progress reports; reading the loss waits for the device, so not every step."""

EXACT_PSNR = 100.0
"""What an image that is restored exactly counts in validation, in dB, so that the others still matter."""

LUMA_WEIGHTS = (0.299, 0.587, 0.114)
LUMA_SHARE = 0.85
"""Share of luma in the squared error; the rest is on all three colours, so that they do not drift."""

LOSS_SMOOTHING = 0.02
"""Share of the newest step in the running mean of the loss that is reported."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands."""

    step: int
    steps: int
    steps_per_second: float
    seconds_left: float  # NaN before the first step, as is the speed
    loss: float  # running mean of the absolute (in the L2 share: root mean squared, mostly luma's) error
    psnr: float  # last validation, dB on Y; NaN before the first
    best_psnr: float
    validated: bool  # whether this step was validated


@dataclass
class Run:
    """Everything a run is, between two steps; `state()` is what a resumed run starts from."""

    config: TrainConfig
    spec: ArchSpec
    steps: int
    device: torch.device
    precision: str
    started_from: dict[str, Any]
    """What is known of the model whose training goes on here; empty for fresh weights."""
    taught_by: dict[str, Any]
    """What is known of the teacher; empty where there is none."""
    network: Network
    averaged: Network
    optimizer: Muon
    step: int = 0
    seconds: float = 0.0
    loss: Tensor = field(default_factory=lambda: torch.tensor(math.nan))
    best_psnr: float = -math.inf
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    metrics: list[dict[str, float]] = field(default_factory=list)
    shortened: list[tuple[int, int]] = field(default_factory=list)
    """As `TrainConfig.shortened`: what has happened so far."""

    def state(self, data: str) -> dict[str, Any]:
        """Tensors and plain values only; `data` is the fingerprint of the training images."""
        return {
            "config": dataclasses.asdict(self.config),
            "spec": self.spec.to_json(),
            "steps": self.steps,
            "precision": self.precision,
            "started_from": self.started_from,
            "taught_by": self.taught_by,
            "threads": torch.get_num_threads(),
            "data": data,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.loss,
            "best_psnr": self.best_psnr,
            "best_weights": self.best_weights,
            "metrics": self.metrics,
            "shortened": self.shortened,
        }


def train_network(
    spec: ArchSpec,
    photographs: Sequence[Photograph],
    config: TrainConfig,
    run_dir: Path,
    *,
    start: Model | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    stop: threading.Event | None = None,
) -> Network:
    """Train a network, keeping the weights that validate best.

    Args:
        spec: the architecture.
        photographs: what to learn from; about 24 are held out for validation (`data.split`).
        config: every knob.
        run_dir: new folder; holds the state, metrics.jsonl, curve.png and, as a model folder, the best weights.
        start: go on from this model's weights instead of fresh ones; with another scale, from its trunk's,
            under a fresh tail.
        on_progress: called before the first step, every 20 steps and after each validation.
        stop: set it to end after the current step, with the state saved.
    Returns:
        The best network so far, collapsed, on the CPU.
    Raises:
        RunError: `run_dir` exists already or cannot be written, or the loss is no longer a number.
        DataError: the images are too few or too small.
        ModelError: the teacher cannot be had, or cannot teach this network.
    """
    check_new_run(run_dir)
    return begin_training(spec, photographs, config, run_dir, start, on_progress, stop)


def begin_training(
    spec: ArchSpec,
    photographs: Sequence[Photograph],
    config: TrainConfig,
    run_dir: Path,
    start: Model | None,
    on_progress: Callable[[Progress], None],
    stop: threading.Event | None,
) -> Network:
    """`train_network` in a folder that may hold other parts of the same run already."""
    check_sizes(photographs, config.patch_px * spec.scale)
    device = pick_device(config.device)
    network, averaged, optimizer = _prepare(spec, config, device, start.network if start else None)
    precision = resolve_training_precision(config.precision, device)
    started_from = {**start.config.training.to_dict(), "name": start.config.name} if start else {}
    taught_by = teacher_record(load_teacher(config.teacher, spec.scale, config.variants))
    run = Run(config, spec, config.steps or 0, device, precision, started_from, taught_by, network, averaged, optimizer)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{run_dir}: cannot be made ({error.strerror})") from None
    with held(run_dir / STATE_FILE):
        return _train(run, photographs, run_dir, on_progress, stop or threading.Event())


def resume_training(
    run_dir: Path,
    photographs: Sequence[Photograph],
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    stop: threading.Event | None = None,
) -> Network:
    """Go on with a run that was stopped, ending where it would have ended (bit for bit on the CPU).

    Sets torch's thread count to the run's, since results depend on it.

    Args and returns: as for `train_network`, with the very images the run was started with.
    Raises:
        RunError: there is no such run, its state is damaged, the images or the teacher are others, or another process
            is at work on it.
    """
    check_resumable(run_dir)
    with held(run_dir / STATE_FILE):
        run = _restored(run_dir, photographs)
        return _train(run, photographs, run_dir, on_progress, stop or threading.Event())


def check_resumable(run_dir: Path) -> None:
    """Refuse a folder without a training to go on with.

    Raises:
        RunError: no training was stopped there.
    """
    if not (run_dir / STATE_FILE).is_file():
        raise RunError(f"{run_dir}: no training was stopped here; nothing to resume")


def _restored(run_dir: Path, photographs: Sequence[Photograph]) -> Run:
    """The run as it was saved; sets torch's thread count to its own."""
    state = load_state(run_dir / STATE_FILE)
    if state["data"] != fingerprint(photographs):
        raise RunError(f"{run_dir}: was started with other training images; name the same folders to resume")
    torch.set_num_threads(state["threads"])
    config, spec = TrainConfig(**state["config"]), ArchSpec.from_json(state["spec"])
    device, precision = pick_device(config.device), state["precision"]
    network, averaged, optimizer = _prepare(spec, config, device, None)
    network.load_state_dict(state["network"])
    averaged.load_state_dict(state["averaged"])
    optimizer.load_state_dict(state["optimizer"])
    return Run(
        config, spec, state["steps"], device, precision, state["started_from"], state["taught_by"],
        network, averaged, optimizer, state["step"], state["seconds"], state["loss"].to(device),
        state["best_psnr"], state["best_weights"], state["metrics"], state["shortened"],
    )  # fmt: skip


def load_teacher(name: str | None, scale: int, variants: int = 0) -> Model | None:
    """The model to imitate, where one is named.

    Args:
        variants: as `TrainConfig.variants`.
    Raises:
        ModelError: there is no such model, it has another scale, or it was not made for such input.
    """
    if name is None:
        return None
    model = load_model(name)
    if model.scale != scale:
        raise ModelError(f"{name} enlarges {model.scale} times and cannot teach a network that enlarges {scale} times")
    if variants and not model.config.restores:
        raise ModelError(f"{name} was made for clean input and cannot teach a network to restore photographs")
    return model


def teacher_record(teacher: Model | None) -> dict[str, Any]:
    """What is kept of a teacher.

    Returns:
        Its `name`, the `sha256` of its weights, and `data`, all that it has learnt from; nothing without a teacher.
    """
    if teacher is None:
        return {}
    weights = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in teacher.network.state_dict().values()))
    data: list[str] = []
    for stage in teacher.config.training.stages():
        data += [*stage.data, *(stage.taught_by.data if stage.taught_by else [])]
    return {"name": teacher.config.name, "sha256": weights.hexdigest(), "data": list(dict.fromkeys(data))}


def _teacher_of(run: Run, run_dir: Path) -> Teacher | None:
    """The teacher's mean over turns and flips; what bf16 loses is nothing to what it is wrong by.

    Raises:
        RunError: it is not what it was when the run began.
    """
    model = load_teacher(run.config.teacher, run.spec.scale, run.config.variants)
    if teacher_record(model) != run.taught_by:
        raise RunError(f"{run_dir}: {run.config.teacher} has changed since it began to teach; start anew")
    if model is None:
        return None
    upscaler = TiledUpscaler(model, str(run.device), run.precision)

    def enlarged(low: Pixels) -> Pixels | None:
        try:
            return upscaler.upscale_rgb8(low, UpscaleOptions(self_ensemble=True))
        except InconsistentResultError:  # what is seen to be wrong is nothing to imitate
            return None

    return enlarged


def check_new_run(run_dir: Path) -> None:
    """Refuse a folder that a new run cannot have.

    Raises:
        RunError: there is something of that name already, other than an empty folder, or one whose run was killed
            before it had a state.
    """
    if run_dir.exists() and not (run_dir.is_dir() and all(map(_is_no_run, run_dir.iterdir()))):
        raise RunError(f"{run_dir}: exists already; resume it, or choose another folder")


def _is_no_run(path: Path) -> bool:
    return path.name == EVENTS_FILE or path.name.startswith(HIDDEN)


def _prepare(
    spec: ArchSpec, config: TrainConfig, device: torch.device, start: Network | None
) -> tuple[Network, Network, Muon]:
    """The network that learns, the running mean of its weights, and the optimiser."""
    torch.manual_seed(config.seed)
    network = Network(spec)
    if start is not None:
        weights = start.state_dict()
        if start.spec.scale != spec.scale:  # the tail is the one part that the scale shapes
            weights |= {name: tensor for name, tensor in network.state_dict().items() if name.startswith("tail.")}
        network.load_state_dict(weights)
    if config.branches:
        network.open_branches()
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = copy.deepcopy(network).requires_grad_(False)
    return network, averaged, Muon(network.parameters(), weight_decay=config.weight_decay)


def _train(
    run: Run,
    photographs: Sequence[Photograph],
    run_dir: Path,
    on_progress: Callable[[Progress], None],
    stop: threading.Event,
) -> Network:
    config, spec = run.config, run.spec
    teacher = None if _minimises_squares(run) else _teacher_of(run, run_dir)
    learning, held_out = split(photographs)
    patches = Patches(learning, spec.scale, config.patch_px, run.device, config.variants)
    validation = image_pairs(held_out, spec.scale, min(config.variants, 1))
    data = fingerprint(photographs)
    run.steps = run.steps or _count_steps(run, patches, validation)
    take_step = TrainStep(run.network, run.averaged, run.optimizer, config, run.precision)

    if run.step == 0:
        if run.started_from and not run.metrics:
            _validate(run, validation)  # what the start is worth, so that nothing worse is ever kept
        _save(run, run_dir, data, photographs)  # from here on resuming uses this number of steps
    # A run that goes on tells its last validation again: it may have been killed before anybody heard of it.
    tells_again = run.step > 0 and bool(run.metrics) and run.metrics[-1]["step"] == run.step
    on_progress(_progress(run, math.nan, validated=tells_again))
    # It takes minutes: after the first state, so that a run which is stopped or killed meanwhile can go on.
    if teacher and not patches.be_taught(teacher, stop):
        return _best_network(run)
    saved = reported = time.perf_counter()
    reported_step = run.step
    while run.step < run.steps:
        # 1. One step: rate, batch, forward and backward, clip, optimiser, running mean.
        squared = _minimises_squares(run)
        low, high = patches.batch(config.seed, run.step, config.batch_size, taught=not squared)
        loss = take_step(low, high, learning_rate(config, run.step, run.steps), run.step, squared)
        run.loss = loss if run.step == 0 else torch.lerp(run.loss, loss, LOSS_SMOOTHING)
        run.step += 1
        stopping = stop.is_set()
        finished = run.step == run.steps

        # 2. Validate the running mean, keep the best, save the state.
        validating = run.step % config.validate_every == 0 or finished
        if validating:
            _validate(run, validation)
        if validating or stopping:
            run.seconds += time.perf_counter() - saved
            saved = time.perf_counter()
            if (steps := _steps_from_here(run, validating)) != run.steps:
                run.steps = steps
                run.shortened.append((run.step, steps))
            _save(run, run_dir, data, photographs)

        # 3. Report.
        if run.step % REPORT_EVERY == 0 or validating or stopping:
            speed = (run.step - reported_step) / (time.perf_counter() - reported)
            reported, reported_step = time.perf_counter(), run.step
            on_progress(_progress(run, speed, validating))
        if stopping:
            break
    return _best_network(run)


def _minimises_squares(run: Run) -> bool:
    """Whether the next step is of the L2 share, as far as steps have been counted yet."""
    return run.steps > 0 and run.step >= run.steps * (1 - run.config.l2_share)


def _progress(run: Run, steps_per_second: float, validated: bool) -> Progress:
    return Progress(
        step=run.step,
        steps=run.steps,
        steps_per_second=steps_per_second,
        seconds_left=(run.steps - run.step) / steps_per_second,
        loss=float(run.loss),
        psnr=run.metrics[-1]["psnr"] if run.metrics else math.nan,
        best_psnr=run.best_psnr,
        validated=validated,
    )


class TrainStep:
    """One optimiser step; on a CUDA device captured as a graph, so that Python is not the limit."""

    def __init__(
        self,
        network: Network,
        averaged: Network,
        optimizer: Muon,
        config: TrainConfig,
        precision: str,
    ) -> None:
        self.network, self.averaged, self.optimizer = network, averaged, optimizer
        self.config, self.precision = config, precision
        self.device = next(network.parameters()).device
        self._rate: Tensor = optimizer.param_groups[0]["lr"]
        self._averaging = torch.zeros((), device=self.device)
        self._luma_weights = torch.tensor(LUMA_WEIGHTS, device=self.device).view(3, 1, 1, 1)
        self._graphs: dict[bool, tuple[torch.cuda.CUDAGraph, Tensor, Tensor, Tensor]] = {}

    def __call__(self, low: Tensor, high: Tensor, rate: float, step: int, squared: bool) -> Tensor:
        """Learn from one batch; return the loss, still on the device."""
        self._rate.fill_(rate)
        # The mean follows closely at first, when the weights change fast.
        self._averaging.fill_(1 - min(self.config.ema_decay, (1 + step) / (10 + step)))
        if self.device.type != "cuda":
            return self._step(low, high, squared)
        if squared not in self._graphs:
            self._graphs[squared] = self._capture(low, high, squared)
        graph, static_low, static_high, loss = self._graphs[squared]
        static_low.copy_(low)
        static_high.copy_(high)
        graph.replay()
        return loss.clone()

    def _step(self, low: Tensor, high: Tensor, squared: bool) -> Tensor:
        low = low.contiguous(memory_format=torch.channels_last)
        if not self.network.spec.upsample_after:
            high = F.pixel_unshuffle(high, self.network.spec.scale)
        with autocast(self.device, self.precision):
            output = self.network.forward_unshuffled(low)
        # The loss's gradient by hand: autograd's takes as long as the whole trunk of a small network.
        error = output.detach() - high.contiguous(memory_format=torch.channels_last)
        if squared:
            loss, gradient = _squared_loss(error, self._luma_weights)
        else:
            loss, gradient = error.abs().mean(), error.sign_().div_(error.numel())
        self.optimizer.zero_grad(set_to_none=True)
        output.backward(gradient)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self.optimizer.step()
        with torch.no_grad():
            for mean, weight in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(weight, self._averaging)
        return loss

    def _capture(self, low: Tensor, high: Tensor, squared: bool) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor, Tensor]:
        """Record one step; the steps that capturing needs beforehand are undone."""
        static_low, static_high = low.clone(), high.clone()
        modules = (self.network, self.averaged)
        before = [copy.deepcopy(module.state_dict()) for module in modules]
        optimizer_before = copy.deepcopy(self.optimizer.state_dict())
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._step(static_low, static_high, squared)
        torch.cuda.current_stream().wait_stream(side)
        for module, weights in zip(modules, before, strict=True):
            module.load_state_dict(weights)
        self._restore_optimizer(optimizer_before)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = self._step(static_low, static_high, squared)
        return graph, static_low, static_high, loss

    def _restore_optimizer(self, before: dict[str, Any]) -> None:
        """Put the optimiser's moments back in place: a graph must find them where it was recorded."""
        with torch.no_grad():
            for index, state in enumerate(self.optimizer.state.values()):
                for name, tensor in state.items():
                    old = before["state"].get(index, {}).get(name)
                    tensor.copy_(old) if old is not None else tensor.zero_()


def _squared_loss(error: Tensor, luma_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Root of the mean squared error, most of it on luma, which is what PSNR on Y measures; and its gradient.

    Args:
        error: (N, 3 * k, H, W), the k values of a colour side by side.
        luma_weights: (3, 1, 1, 1), summing to 1.
    """
    by_colour = error.unflatten(1, (3, -1))
    luma = (by_colour * luma_weights).sum(dim=1, keepdim=True)
    loss = (LUMA_SHARE * luma.square().mean() + (1 - LUMA_SHARE) * error.square().mean()).sqrt()
    # Luma has a third of the values, so each of them weighs three times as much in its mean.
    weighted = 3 * LUMA_SHARE * luma * luma_weights + (1 - LUMA_SHARE) * by_colour
    return loss, weighted.flatten(1, 2) / (loss.clamp(min=1e-6) * error.numel())


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    warmup_steps = min(config.warmup_steps, steps // 10)
    if step < warmup_steps:
        return config.learning_rate * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


@torch.inference_mode()
def validation_psnr(network: Frame, pairs: Sequence[tuple[Pixels, Pixels]], *choices: object) -> float:
    """Mean PSNR on Y in dB over whole images, in fp32, by the protocol; `choices` as for the network's `forward`."""
    device = next(network.parameters()).device
    total = 0.0
    for low, high in pairs:
        output = network(torch.from_numpy(low).to(device).permute(2, 0, 1)[None].float() / 255, *choices)
        levels = (output[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        total += min(psnr_y(levels, high, network.scale), EXACT_PSNR)
    return total / len(pairs)


def _validate(run: Run, validation: Sequence[tuple[Pixels, Pixels]]) -> None:
    if run.step > 0 and not run.loss.isfinite():
        raise RunError(f"step {run.step}: the loss is no longer a number; start again with a lower learning rate")
    psnr = validation_psnr(run.averaged, validation)
    if psnr > run.best_psnr:
        run.best_psnr = psnr
        run.best_weights = copy.deepcopy(run.averaged.state_dict())
    rate = float(run.optimizer.param_groups[0]["lr"])
    run.metrics.append({"step": run.step, "loss": float(run.loss), "psnr": psnr, "learning_rate": rate})


def _save(run: Run, run_dir: Path, data: str, photographs: Sequence[Photograph]) -> None:
    try:
        _write(run, run_dir, data, photographs)
    except OSError as error:
        raise RunError(f"{run_dir}: cannot be written ({error.strerror}); resume once it can") from None


def _write(run: Run, run_dir: Path, data: str, photographs: Sequence[Photograph]) -> None:
    """The state last, so that what is not written, or not all of it, is written when the run goes on from the state
    before. There is none before the first one, and no run without it."""
    if run.step == 0:
        save_state(run_dir / STATE_FILE, run.state(data))
    if run.metrics:
        _write_model(run, run_dir, data, photographs)
    if run.step > 0:
        save_state(run_dir / STATE_FILE, run.state(data))


def _write_model(run: Run, run_dir: Path, data: str, photographs: Sequence[Photograph]) -> None:
    """The best network so far, and how it came to be."""
    lines = "".join(json.dumps(_plain(line)) + "\n" for line in run.metrics)
    write_atomically(run_dir / METRICS_FILE, lines.encode())
    points = [(line["step"], line["psnr"]) for line in run.metrics]
    curve = line_plot(points, f"Validation PSNR on Y, dB (best {run.best_psnr:.3f})", "steps")
    write_atomically(run_dir / CURVE_FILE, curve)
    training = {
        "data": sorted({photo.path.parent.name for photo in photographs}),
        "images": len(photographs),
        "data_sha256": data,
        "steps": run.step,
        "seconds": round(run.seconds),
        "validation_psnr": round(run.best_psnr, 4),
        "config": dataclasses.asdict(run.config),
    }
    training |= {key: value for key in ("started_from", "taught_by") if (value := getattr(run, key))}
    record = TrainingRecord.model_validate(training)
    save_model(run_dir, _best_network(run), ModelConfig(run_dir.name, run.spec, UNSPECIFIED, record))


def _plain(numbers: dict[str, float]) -> dict[str, float | None]:
    """JSON has no word for what is not a number: null."""
    return {name: number if math.isfinite(number) else None for name, number in numbers.items()}


def _steps_from_here(run: Run, validating: bool) -> int:
    """How many steps the run is to have: fewer than planned where it would miss its time by more than 2 %."""
    if run.config.minutes is None:
        return dict(run.config.shortened).get(run.step, run.steps)
    affordable = int(run.config.minutes * 60 * run.step / run.seconds)
    return max(run.step, affordable) if validating and affordable < 0.98 * run.steps else run.steps


def _best_network(run: Run) -> Network:
    network = copy.deepcopy(run.averaged)
    network.load_state_dict(run.best_weights or run.averaged.state_dict())
    network.close_branches()
    return network.cpu().eval()


def _count_steps(run: Run, patches: Patches, validation: Sequence[tuple[Pixels, Pixels]]) -> int:
    """How many steps fit into the config's minutes, by timing a few on a copy that is thrown away."""
    assert run.config.minutes is not None
    network, averaged, optimizer = _prepare(run.spec, run.config, run.device, None)
    take_step = TrainStep(network, averaged, optimizer, run.config, run.precision)
    begin = time.perf_counter()
    seconds = []
    for step in range(40):
        start = time.perf_counter()
        low, high = patches.batch(run.config.seed, step, run.config.batch_size)
        take_step(low, high, run.config.learning_rate, step, squared=False)
        synchronize(run.device)
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    validation_psnr(averaged, validation)
    per_validation = time.perf_counter() - start
    per_step = float(np.mean(seconds[10:])) + per_validation / run.config.validate_every
    return max(1, int((run.config.minutes * 60 - (time.perf_counter() - begin)) / per_step))
