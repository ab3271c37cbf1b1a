"""Each primitive against its formula, written with plain torch functions, and against its row of the registry."""

import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import trinas
from trinas.networks.layers import Conv, take_prefix
from trinas.networks.primitives import PRIMITIVES, build_primitive, find_primitive

EVERY_PRIMITIVE = [(family, name) for family, rows in PRIMITIVES.items() for name in rows]
LIBRARY = Path(trinas.__file__).parent
ROOT = Path(__file__).parents[2]


def conv(module, features):
    return F.conv2d(features, module.weight, module.bias, padding=module.kernel_size[0] // 2, groups=module.groups)


def act(module, features):
    return F.prelu(features, module.weight)


def mixer(m, x, prefix):
    return prefix + conv(m.project, act(m.act, conv(m.expand, conv(m.depthwise, x))))


def block4(m, x, prefix):
    first = act(m.act1, conv(m.conv1, x))
    second = act(m.act2, conv(m.conv2, first))
    third = act(m.act3, conv(m.conv3, second))
    return prefix + conv(m.conv4, third)


EDGE_FORMULAS = {
    "skip": lambda m, x, prefix: prefix,
    "conv3x3": lambda m, x, prefix: act(m.act, conv(m.conv, x)),
    "residual": lambda m, x, prefix: prefix + conv(m.conv2, act(m.act, conv(m.conv1, x))),
    "gated": lambda m, x, prefix: conv(m.conv, x) * torch.sigmoid(conv(m.gate, x)),
    "mixer5": mixer,
    "mixer7": mixer,
    "block4": block4,
}
PAPER_FORMULAS = {
    "skip": lambda m, x, identity: F.relu(conv(m.conv, x)),
    "conv3x3": lambda m, x, identity: F.relu(conv(m.conv, x)),
    "residual": lambda m, x, identity: F.relu(identity + conv(m.conv2, F.relu(conv(m.conv1, x)))),
    "dws": lambda m, x, identity: F.relu(
        identity + conv(m.project, F.relu(conv(m.depthwise, F.relu(conv(m.expand, x)))))
    ),
}


def busy_primitive(family, name, c_in, c_out):
    """With random weights everywhere: no term of the formula may hide behind a zero."""
    module = build_primitive(family, name, c_in, c_out)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


@pytest.mark.parametrize(("c_in", "c_out"), [(6, 6), (6, 9), (9, 6)])
@pytest.mark.parametrize("name", PRIMITIVES["edge"])
def test_edge_primitives_follow_their_formulas(name, c_in, c_out):
    features, module = torch.randn(2, c_in, 8, 9), busy_primitive("edge", name, c_in, c_out)
    expected = EDGE_FORMULAS[name](module, features, take_prefix(features, c_out))
    torch.testing.assert_close(module(features), expected)


@pytest.mark.parametrize(("c_in", "c_out"), [(6, 6), (6, 9), (9, 6)])
@pytest.mark.parametrize("name", PRIMITIVES["paper"])
def test_paper_primitives_follow_their_formulas(name, c_in, c_out):
    features, module = torch.randn(2, c_in, 8, 9), busy_primitive("paper", name, c_in, c_out)
    identity = features
    if c_in != c_out and hasattr(module, "identity"):
        identity = F.conv2d(features, module.identity.projection.weight)
    torch.testing.assert_close(module(features), PAPER_FORMULAS[name](module, features, identity))
    assert all(parameter.ndim == 4 for parameter in module.parameters()), "bias-free"


@pytest.mark.parametrize(("c_in", "c_out"), [(6, 6), (6, 9), (9, 6)])
def test_a_fresh_block_passes_its_input_on(c_in, c_out):
    features = torch.randn(2, c_in, 8, 9)
    assert torch.equal(build_primitive("edge", "block4", c_in, c_out)(features), take_prefix(features, c_out))


@pytest.mark.parametrize(("family", "name"), EVERY_PRIMITIVE)
@pytest.mark.parametrize(("c_in", "c_out"), [(8, 8), (8, 12), (12, 8)])
def test_a_primitive_has_the_shape_and_size_of_its_row(family, name, c_in, c_out):
    module = build_primitive(family, name, c_in, c_out)
    assert module(torch.zeros(2, c_in, 5, 7)).shape == (2, c_out, 5, 7)
    convs = find_primitive(family, name).convs(c_in, c_out)
    assert sum(parameter.numel() for parameter in module.parameters()) == sum(conv.params for conv in convs)
    built = [(c.in_channels, c.out_channels, *c.kernel_size, c.groups) for c in module.modules() if isinstance(c, Conv)]
    assert sorted(built) == sorted((c.c_in, c.c_out, c.kernel, c.kernel, c.groups) for c in convs)


@pytest.mark.parametrize(("family", "name"), EVERY_PRIMITIVE)
def test_the_hidden_widths_of_a_row_are_all_that_the_module_has(family, name):
    """A forgotten one would let the supernet compute something else than the network that is derived from it."""
    features, module = torch.randn(1, 5, 4, 4), build_primitive(family, name, 5, 7)
    convs = {path: part for path, part in module.named_modules() if isinstance(part, Conv)}
    read_inside = set()

    def note_what_is_read(part, inputs):
        if inputs[0] is not features:
            read_inside.update(path for path, conv in convs.items() if conv is part)

    for part in convs.values():
        part.register_forward_pre_hook(note_what_is_read)
    module(features)
    hidden = find_primitive(family, name).hidden
    assert set(hidden) == {path for path in read_inside if convs[path].groups == 1}
    for path, (side, times) in hidden.items():
        assert convs[path].in_channels == times * {"in": 5, "out": 7}[side]


@pytest.mark.parametrize(("family", "name"), EVERY_PRIMITIVE)
def test_a_row_has_words_colours_and_the_formula_of_the_documentation(family, name):
    row = find_primitive(family, name)
    assert row.words
    for colour in row.colours:
        assert re.fullmatch("#[0-9a-f]{6}", colour)
    documented = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert f"| `{name}` | {row.formula} |" in documented


def test_a_name_and_a_colour_stand_for_each_other():
    """Drawings name colours by primitive, whatever the family."""
    pairs = {(name, row.colours) for rows in PRIMITIVES.values() for name, row in rows.items()}
    assert len(pairs) == len(dict(pairs)) == len({colours for _, colours in pairs})


def test_a_primitive_is_described_in_one_place():
    """No other file of the library or the application knows the primitives that no default space has."""
    names = {name for _, name in EVERY_PRIMITIVE} - {"skip", "conv3x3"}
    for path in [*LIBRARY.rglob("*.*"), *(ROOT / "app").rglob("*.*")]:
        if path.suffix in (".py", ".css", ".jinja") and path != LIBRARY / "networks/primitives.py":
            found = [name for name in names if re.search(f"""["'-]{name}\\b""", path.read_text(encoding="utf-8"))]
            assert not found, f"{path} knows {found}"


def test_saved_searches_find_primitives_by_the_same_index():
    assert list(PRIMITIVES["edge"])[:6] == ["skip", "conv3x3", "residual", "gated", "mixer5", "mixer7"]
    assert list(PRIMITIVES["paper"])[:4] == ["skip", "conv3x3", "residual", "dws"]


@pytest.mark.parametrize(("family", "name"), [("edge", "dws"), ("giant", "skip")])
def test_unknown_primitives_are_refused(family, name):
    with pytest.raises(ValueError, match=f"'{family}' has no primitive '{name}'"):
        build_primitive(family, name, 8, 8)
    with pytest.raises(ValueError, match=f"'{family}' has no primitive '{name}'"):
        find_primitive(family, name)
