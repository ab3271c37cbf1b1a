import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given

from support import hostile
from support.networks import specs
from trinas.errors import SpecError
from trinas.networks.cost import compute_cost
from trinas.networks.network import Network
from trinas.networks.space import (
    ArchSpec,
    CellSpec,
    Choice,
    SearchSpace,
    SlotSpec,
)


@given(specs())
def test_spec_survives_json(spec):
    assert ArchSpec.from_json(spec.to_json()) == spec


@given(specs())
def test_a_spec_of_the_first_schema_has_no_long_skip(spec):
    old = spec.to_dict() | {"schema": 1}
    del old["long_skip"]
    assert ArchSpec.from_dict(old) == replace(spec, long_skip=False)


def tiny_data(**changes):
    data = ArchSpec("edge", 2, 8, (CellSpec((SlotSpec("conv3x3", 8),)),)).to_dict()
    return {**data, **changes}


def deep_list(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"trunk_width": 10**30}, r"trunk_width 1000000000000000000000000000000 is not"),
        ({"trunk_width": 1025, "cells": []}, "from 1 to 1024"),
        ({"cells": [[["conv3x3", 8]]] * 2000}, "2,000 cells are more than 64"),
        ({"cells": [[["conv3x3", 8]] * 2000]}, "cell 1: 2,000 slots are more than 32"),
        ({"cells": [[["conv3x3", 10**30], ["conv3x3", 8]]]}, "cell 1: width 1000"),
        ({"family": "paper", "plain_convs": 10**9}, "plain_convs 1000000000 is not a whole number from 0 to 64"),
        ({"trunk_width": 1024, "cells": [[["conv3x3", 1024]] * 16]}, "151,166,988 parameters are more than 50,000,000"),
        ({"cells": [[["mixer5", 8]] * 32] * 64}, "6,146 convolutions are more than 2,000"),
        ({"upsample_after": [0] * 10_000}, "no upsampling steps"),
        ({"family": "x" * 10**6}, "none of edge, paper"),
        ({"family": "\x1b]0;x\x07\n"}, r"family '\\x1b\]0;x\\x07\\n'"),
        ({"cells": deep_list(50)}, "lists of"),
        ({"trunk_width": math.nan}, "trunk_width nan"),
        ({"trunk_width": math.inf}, "trunk_width inf"),
        ({"scale": 2.0}, r"scale 2\.0 is none"),
        ({"x" * 10**6: 0}, "unknown keys"),
    ],
)
def test_a_spec_far_beyond_any_network_is_refused_in_one_line(changes, complaint):
    with pytest.raises(SpecError, match=complaint) as caught:
        ArchSpec.from_dict(tiny_data(**changes))
    assert hostile.is_one_line(str(caught.value))


def test_any_value_in_a_spec_is_built_or_refused_in_one_line(tiny_spec):
    with torch.device("meta"):
        for change, data in hostile.mutations(tiny_spec.to_dict()):
            spec = hostile.accept_or_refuse(lambda data=data: ArchSpec.from_json(json.dumps(data)), SpecError)
            if spec:
                assert sum(weight.numel() for weight in Network(spec).parameters()) == compute_cost(spec).params, change


@pytest.mark.parametrize(
    "text",
    ["[" * 10**6, '{"a":' * 10**5, "9" * 10**5, "\ud800", '"x"', "", "[1" + ",1" * 10**5],
    ids=range(7),
)
def test_text_that_is_no_spec_is_refused_in_one_line(text):
    with pytest.raises(SpecError, match="not a valid architecture") as caught:
        ArchSpec.from_json(text)
    assert hostile.is_one_line(str(caught.value))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ["edge"]}, {"name": "x" * 10**6}, {"scale": True}, {"scale": 2.0}, {"trunk_width": 10**30},
        {"cells": 65}, {"slots": 33}, {"slots": True}, {"searched_cells": 2}, {"searched_cells": -1},
        {"trunk_width": math.nan},
    ],
)  # fmt: skip
def test_a_space_far_beyond_any_search_is_refused_in_one_line(changes):
    sizes = {"name": "edge", "scale": 2, "trunk_width": 8, "cells": 2, "slots": 2, "searched_cells": 1}
    with pytest.raises(SpecError) as caught:
        SearchSpace(**sizes | changes)
    assert hostile.is_one_line(str(caught.value))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"schema": 99}, "newer trinas-upscale"),
        ({"schema": None}, "newer trinas-upscale"),
        ({"colour": "blue"}, r"unknown keys \['colour'\]"),
        ({"family": "giant"}, "family 'giant' is none of edge, paper"),
        ({"family": ["edge"]}, "family"),
        ({"scale": 5}, "scale 5 is none of"),
        ({"scale": True}, "scale True is none of"),
        ({"trunk_width": 0}, "trunk_width 0"),
        ({"trunk_width": 8.0}, r"trunk_width 8\.0"),
        ({"cells": [[["conv3x3", 4]]]}, "must end at the trunk width"),
        ({"cells": [[]]}, "cell 1 has no slots"),
        ({"cells": [[["dws", 8]]]}, "'dws' is no primitive of edge"),
        ({"cells": [[[["conv3x3"], 8]]]}, r"\['conv3x3'\] is no primitive of edge"),
        ({"cells": [[["conv3x3"]]]}, r"lists of \[primitive, width\]"),
        ({"cells": 7}, "must be lists"),
        ({"upsample_after": ""}, "must be lists"),
        ({"upsample_after": [1]}, "no upsampling steps"),
        ({"plain_convs": 1}, "no plain convolutions"),
        ({"long_skip": 1}, "long_skip 1"),
        ({"family": "paper", "long_skip": True}, "no long skip"),
        ({"family": "paper", "upsample_after": [2]}, "must count cells"),
        ({"family": "paper", "scale": 4, "upsample_after": [1]}, "takes 2 upsampling steps"),
        ({"family": "paper", "scale": 4, "upsample_after": [1, 0]}, "must not decrease"),
    ],
)
def test_a_bad_spec_says_what_is_wrong(changes, complaint):
    with pytest.raises(SpecError, match=complaint):
        ArchSpec.from_json(json.dumps(tiny_data(**changes)))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"schema": 1}'])
def test_other_json_is_no_spec(text):
    with pytest.raises(SpecError, match="not a valid architecture"):
        ArchSpec.from_json(text)


def test_networks_of_the_edge_spaces_have_a_long_skip():
    for name, has in (("edge", True), ("edge-all", True), ("paper-a", False), ("paper-b", False)):
        space = SearchSpace(name, 2, 8, 2, 1, 1)
        choice = Choice(space.candidates[-1], ((0,),) * len(space.cell_nodes), ((),) * len(space.cell_nodes))
        assert (space.spec(choice).long_skip, space.bare_spec.long_skip) == (has, has)
