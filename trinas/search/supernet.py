"""The supernet: every network of a search space at once, mixed at three levels. Any of them can be derived from it.

A primitive of the supernet is the module of the derived network, run with the first channels of larger weights. Two
facts make this exact.

- A mask m >= 0 may multiply a channel behind a piecewise linear, homogeneous activation, or where the channel is read:
  the result is the same. So hidden channels are masked in the kernel of the convolution that reads them.
- e * x + (1 - e) * projection(x) is one 1x1 convolution with the kernel e * I + (1 - e) * P.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from trinas.networks.layers import UpsamplingStep
from trinas.networks.network import PAPER_RESIDUAL_SCALE, Frame, Network
from trinas.networks.primitives import build_primitive, find_primitive
from trinas.networks.space import Choice, SearchSpace
from trinas.search.record import MixtureShares
from trinas.search.sparse import find_largest_radius, sparsestmax, survival

Projection = Callable[[Tensor, float], Tensor]
"""Maps architecture parameters (..., K) and a radius to mixtures of the same shape."""


@dataclass(frozen=True)
class Mixtures:
    """The shares of the candidates of all decisions. Rows follow `SearchSpace.cell_nodes`."""

    path: Tensor  # (candidates,)
    primitives: Tensor  # (cells, slots, K)
    widths: Tensor  # (cells, slots - 1, W)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mixtures of the three levels: path, primitives, widths."""
        return self.path, self.primitives, self.widths

    def rounded(self) -> MixtureShares:
        """Return plain numbers with four decimals. Shares of 0 stay 0, and all others stay above 0."""
        path, primitives, widths = (
            torch.where(mixture > 0, mixture.clamp(min=1e-4), 0).double().round(decimals=4).tolist()
            for mixture in self.tensors()
        )
        return MixtureShares(path=path, primitives=primitives, widths=widths)


class Supernet(Frame):
    """All networks of a space at once. They share the weights of the places that they share.

    Attributes:
        space: the networks.
        arch_path, arch_primitives, arch_widths: the architecture parameters, one tensor a level: (candidates,),
            (cells, slots, K) and (cells, slots - 1, W). They are not normalised.
    """

    def __init__(self, space: SearchSpace, project: Projection = sparsestmax) -> None:
        """Build the supernet with fresh weights.

        Args:
            space: the networks.
            project: turns architecture parameters (..., K) and a radius into mixtures, as `sparsestmax` does.
        """
        trunk = PathTree(space)
        shuffles = not space.searches_upsampling
        super().__init__(space.family, space.scale, space.trunk_width, shuffles, trunk, space.long_skip)
        self.space, self._project = space, project
        cells, slots = len(space.cell_nodes), space.slots
        # Nearly equal, to break ties: exact ties have no gradient once the radius grows.
        self.arch_path = nn.Parameter(1e-4 * torch.randn(len(space.candidates)))
        self.arch_primitives = nn.Parameter(1e-4 * torch.randn(cells, slots, len(space.primitives)))
        self.arch_widths = nn.Parameter(1e-4 * torch.randn(cells, slots - 1, len(space.widths)))

    def arch_parameters(self) -> list[nn.Parameter]:
        """Return one tensor a level. Together with `weight_parameters` these are all of `parameters()`, each once."""
        return [self.arch_path, self.arch_primitives, self.arch_widths]

    def weight_parameters(self) -> list[nn.Parameter]:
        """Return all parameters except the architecture parameters."""
        return [*self.head.parameters(), *self.trunk.parameters(), *self.tail.parameters()]

    def mixtures(self, anneal: float) -> Mixtures:
        """Project the architecture parameters to shares.

        Args:
            anneal: from 0, which is sparsemax, to 1, where every decision is one-hot.
        """
        path, primitives, widths = (
            self._project(parameters, anneal * find_largest_radius(parameters.shape[-1]))
            for parameters in self.arch_parameters()
        )
        return Mixtures(path, primitives, widths)

    def choice(self) -> Choice:
        """Return the candidates with the highest architecture parameters. Only they have a share in `mixtures(1)`."""
        path = int(self.arch_path.argmax())
        primitives, widths = (level.argmax(-1).tolist() for level in (self.arch_primitives, self.arch_widths))
        return Choice(self.space.candidates[path], tuple(map(tuple, primitives)), tuple(map(tuple, widths)))

    def make_one_hot_mixtures(self, choice: Choice) -> Mixtures:
        """Return mixtures that give all shares to this choice."""
        path = self.space.candidates.index(choice.node)
        chosen = (path, choice.primitives, choice.widths)
        one_hot = (
            F.one_hot(torch.tensor(index, dtype=torch.long).view(level.shape[:-1]), level.shape[-1]).to(level)
            for index, level in zip(chosen, self.arch_parameters(), strict=True)
        )
        return Mixtures(*one_hot)

    @torch.no_grad()
    def choose(self, choice: Choice) -> None:
        """Raise architecture parameters so that `choice()` returns this one."""
        path = torch.tensor(self.space.candidates.index(choice.node))
        rows = (path, torch.tensor(choice.primitives), torch.tensor(choice.widths))
        for level, chosen in zip(self.arch_parameters(), rows, strict=True):
            index = chosen.to(level.device).long().view(*level.shape[:-1], 1)
            best = level.max(-1, keepdim=True).values
            others = level.scatter(-1, index, -torch.inf).max(-1, keepdim=True).values
            raised = torch.where(level.gather(-1, index) > others, best, best + 1)
            level.scatter_(-1, index, raised)

    def derive(self, choice: Choice) -> Network:
        """Return the network of a choice with this supernet's weights. It computes the same as the supernet does."""
        network = Network(self.space.spec(choice)).to(self.head.weight)
        network.head.load_state_dict(self.head.state_dict())
        network.tail.load_state_dict(self.tail.state_dict())
        assert isinstance(self.trunk, PathTree)
        for place, index in zip(network.trunk, self.space.path_to(choice.node), strict=True):
            self.trunk.copy_into(place, index, choice)
        return network


class PathTree(nn.Module):
    """The trunk of a supernet: a cell or an upsampling step for every node of the tree of paths.

    Attributes:
        checkpoints: whether a cell's features are recomputed in the backward pass. This takes less memory and a third
            more time.
    """

    below: Tensor
    keeps: Tensor

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        self.checkpoints = space.searches_upsampling  # such trees are large, and most nodes have full resolution
        nodes = (UpsamplingStep(space.trunk_width, node.step) if node.step else Cells(space) for node in space.nodes)
        self.nodes = nn.ModuleList(nodes)
        below = torch.zeros(len(space.nodes), len(space.candidates))
        for column, candidate in enumerate(space.candidates):
            below[list(space.path_to(candidate)), column] = 1
        self.register_buffer("below", below, persistent=False)
        keeps = torch.arange(space.trunk_width) < torch.tensor(space.widths)[:, None]
        self.register_buffer("keeps", keeps.float(), persistent=False)

    def forward(self, features: Tensor, mixtures: Mixtures) -> Tensor:
        """Mix the outputs of the candidates. A node that no candidate with a share needs is not computed.

        Args:
            features: (N, trunk_width, H, W).
            mixtures: of all decisions.
        Returns:
            (N, trunk_width, H, W), or at full resolution where upsampling is searched.
        """
        # Here and below: sums of products, since autocast would round matrix products.
        masks = (mixtures.widths[..., None] * self.keeps).sum(-2)
        alive = (survival(mixtures.path, self.below) > 0).tolist()
        shares = dict(zip(self.space.candidates, mixtures.path.tolist(), strict=True))
        outputs: dict[int, Tensor] = {}
        mixed: Tensor | None = None
        for index, node in enumerate(self.space.nodes):
            if not alive[index]:
                continue
            before = features if node.parent is None else outputs[node.parent]
            outputs[index] = self._run(index, before, mixtures, masks)
            if shares.get(index):
                share = mixtures.path[self.space.candidates.index(index)]
                part = outputs[index] if shares[index] == 1 else share * outputs[index]
                mixed = part if mixed is None else mixed + part
        assert mixed is not None
        return mixed

    def _run(self, index: int, features: Tensor, mixtures: Mixtures, masks: Tensor) -> Tensor:
        module = self.nodes[index]
        if not isinstance(module, Cells):
            return module(features)
        row = self.space.row_of(index)
        arguments = features, mixtures.primitives[row], mixtures.widths[row], masks[row]
        if self.checkpoints and torch.is_grad_enabled():
            return checkpoint(module, *arguments, use_reentrant=False)
        return module(*arguments)

    def copy_into(self, place: nn.Module, index: int, choice: Choice) -> None:
        """Copy the weights of a node into its place in a derived network.

        Args:
            place: part of the derived network.
            index: of the node.
            choice: which primitives the derived network has.
        """
        module = self.nodes[index]
        if not isinstance(module, Cells):
            place.load_state_dict(module.state_dict())
            return
        assert isinstance(place, nn.Sequential)
        primitives = choice.primitives[self.space.row_of(index)]
        for derived, slot, primitive in zip(place, module.slots, primitives, strict=True):
            shapes = {name: tensor.shape for name, tensor in derived.state_dict().items()}
            assert isinstance(slot, nn.ModuleList)
            derived.load_state_dict(take_first_channels(dict(slot[primitive].named_parameters()), shapes))


@dataclass(frozen=True)
class Width:
    """The number of channels between two slots, which may be undecided."""

    live: int  # channels that can differ from zero
    mixture: Tensor | None = None  # (W,); None: decided
    mask: Tensor | None = None  # (live,); None: all ones

    @staticmethod
    def from_mixture(mixture: Tensor, mask: Tensor, widths: tuple[int, ...]) -> "Width":
        """Return the width that a mixture over candidate widths describes.

        Args:
            mixture: (W,) shares of the candidates.
            mask: (trunk_width,) what each channel is multiplied by.
            widths: the candidates.
        """
        kept = [width for width, share in zip(widths, mixture.tolist(), strict=True) if share > 0]
        return Width(kept[-1]) if len(kept) == 1 else Width(kept[-1], mixture, mask[: kept[-1]])


class Cells(nn.Module):
    """All cells that one place of the tree can hold. Every slot has each primitive, as wide as the trunk."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        family, width = space.family, space.trunk_width
        self.slots = nn.ModuleList(
            nn.ModuleList(build_primitive(family, name, width, width, projected=True) for name in space.primitives)
            for _ in range(space.slots)
        )

    def forward(self, features: Tensor, primitives: Tensor, widths: Tensor, masks: Tensor) -> Tensor:
        """Map (N, trunk_width, H, W) to the same shape.

        Args:
            features: the input.
            primitives: (slots, K) mixtures.
            widths: (slots - 1, W) mixtures.
            masks: (slots - 1, trunk_width), what each channel is multiplied by.
        """
        full = Width(self.space.trunk_width)
        between = [Width.from_mixture(*row, self.space.widths) for row in zip(widths, masks, strict=True)]
        chain = features
        for slot, mixture, w_in, w_out in zip(self.slots, primitives, [full, *between], [*between, full], strict=True):
            assert isinstance(slot, nn.ModuleList)
            chain = self._mix(slot, chain, mixture, w_in, w_out)
        return features + PAPER_RESIDUAL_SCALE * chain if self.space.family == "paper" else chain

    def _mix(self, slot: nn.ModuleList, features: Tensor, mixture: Tensor, w_in: Width, w_out: Width) -> Tensor:
        total: Tensor | None = None
        for name, module, share, value in zip(self.space.primitives, slot, mixture, mixture.tolist(), strict=True):
            if value == 0:
                continue
            output = self._run(name, module, features, w_in, w_out)
            output = output if value == 1 else share * output
            total = output if total is None else total + output
        assert total is not None
        return total if w_out.mask is None else total * w_out.mask.to(total.dtype)[:, None, None]

    def _run(self, name: str, module: nn.Module, features: Tensor, w_in: Width, w_out: Width) -> Tensor:
        family = self.space.family
        same = _find_equal_share(w_in, w_out, self.space.widths)
        projected = not (isinstance(same, float) and same == 1)
        skeleton, shapes = _find_skeleton(family, name, w_in.live, w_out.live, projected)
        weights = take_first_channels(dict(module.named_parameters()), shapes)
        for conv, (side, times) in find_primitive(family, name).hidden.items():
            mask = (w_in if side == "in" else w_out).mask
            if mask is not None:
                weights[f"{conv}.weight"] = weights[f"{conv}.weight"] * mask.repeat_interleave(times)[:, None, None]
        if (key := "identity.projection.weight") in weights and not (isinstance(same, float) and same == 0):
            identity = torch.eye(*weights[key].shape[:2], device=features.device, dtype=weights[key].dtype)
            weights[key] = (1 - same) * weights[key] + same * identity[:, :, None, None]
        return functional_call(skeleton, weights, (features,))


def _find_equal_share(w_in: Width, w_out: Width, widths: tuple[int, ...]) -> Tensor | float:
    """Return the share of cases in which two widths are equal. It is a plain number if both are decided."""
    if w_in.mixture is None and w_out.mixture is None:
        return float(w_in.live == w_out.live)
    if w_in.mixture is None:
        assert w_out.mixture is not None
        return w_out.mixture[widths.index(w_in.live)]
    if w_out.mixture is None:
        return w_in.mixture[widths.index(w_out.live)]
    return (w_in.mixture * w_out.mixture).sum()


Skeleton = tuple[nn.Module, dict[str, torch.Size]]


class _Skeletons(threading.local):
    """Modules without weights, for each thread its own: a module must not run with two sets of weights at once."""

    def __init__(self) -> None:
        self.known: dict[tuple[object, ...], Skeleton] = {}


_skeletons = _Skeletons()


def _find_skeleton(family: str, name: str, c_in: int, c_out: int, projected: bool) -> Skeleton:
    """Return a primitive without weights, to be run with given weights, and the shapes of these."""
    key = family, name, c_in, c_out, projected
    if key not in _skeletons.known:
        with torch.device("meta"):
            module = build_primitive(family, name, c_in, c_out, projected)
        _skeletons.known[key] = module, {name: tensor.shape for name, tensor in module.state_dict().items()}
    return _skeletons.known[key]


def take_first_channels(weights: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Return the first entries along every axis of a wider module's weights.

    Args:
        weights: of the wider module, by name.
        shapes: of the narrower module's weights, by name.
    """
    return {name: weights[name][tuple(map(slice, shape))] for name, shape in shapes.items()}
