import json
from dataclasses import replace

import pytest
from hypothesis import given

from support.networks import specs
from trinas.errors import SpecError
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
