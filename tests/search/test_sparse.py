import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from trinas.search.sparse import find_largest_radius, sparsemax, sparsestmax, survival

SHARES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)


def sparsemax_by_bisection(parameters):
    """An independent algorithm: find the threshold by halving, not by sorting."""
    low, high = parameters.max() - 1, parameters.max()
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (parameters - middle).clamp(min=0).sum() > 1 else (low, middle)
    return (parameters - low).clamp(min=0)


def sparsestmax_by_faces(parameters, radius):
    """The construction the formula stands for: push out from the centre of a face, drop who turns negative, repeat."""
    count = len(parameters)
    mixture = sparsemax_by_bisection(parameters)
    norm = radius**2 + 1 / count
    if mixture.square().sum() >= norm:
        return mixture
    face = mixture > 0
    while True:
        size = int(face.sum())
        centre = face.to(parameters.dtype) / size
        direction = torch.where(face, parameters - parameters[face].mean(), 0)
        pushed = centre + direction * math.sqrt(norm - 1 / size) / direction.norm()
        if (pushed[face] >= 0).all():
            return pushed
        face = face & (sparsemax_by_bisection(torch.where(face, pushed, -math.inf)) > 0)


@st.composite
def distinct_parameters(draw, max_size=9):
    values = draw(st.lists(st.floats(-10, 10), min_size=2, max_size=max_size))
    assume(min(b - a for a, b in zip(sorted(values), sorted(values)[1:], strict=False)) > 1e-6)
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("candidates", [1, 2, 5, 64])
def test_sparsemax_agrees_with_bisection(candidates):
    parameters = torch.randn(candidates, dtype=torch.float64)
    torch.testing.assert_close(sparsemax(parameters), sparsemax_by_bisection(parameters))


@given(distinct_parameters(), st.sampled_from(SHARES))
def test_a_mixture_is_on_the_simplex_and_far_enough_out(parameters, share):
    radius = share * find_largest_radius(len(parameters))
    mixture = sparsestmax(parameters, radius)
    assert mixture.min() >= 0
    assert mixture.sum().item() == pytest.approx(1, abs=1e-12)
    assert mixture.square().sum() >= radius**2 + 1 / len(parameters) - 1e-9


@given(distinct_parameters(), st.floats(0, 0.999))
def test_sparsestmax_agrees_with_the_face_by_face_construction(parameters, share):
    radius = share * find_largest_radius(len(parameters))
    torch.testing.assert_close(
        sparsestmax(parameters, radius), sparsestmax_by_faces(parameters, radius), rtol=0, atol=1e-9
    )


@given(distinct_parameters())
def test_radius_zero_is_sparsemax(parameters):
    assert torch.equal(sparsestmax(parameters, 0), sparsemax(parameters))


@given(distinct_parameters(), st.floats(1, 2))
def test_the_largest_radius_chooses_one_candidate(parameters, share):
    mixture = sparsestmax(parameters, share * find_largest_radius(len(parameters)))
    assert mixture.tolist() == [float(index == parameters.argmax()) for index in range(len(parameters))]


@given(distinct_parameters(), st.sampled_from(SHARES), st.floats(-5, 5))
def test_a_common_shift_changes_nothing(parameters, share, shift):
    radius = share * find_largest_radius(len(parameters))
    shifted = sparsestmax(parameters + shift, radius)
    torch.testing.assert_close(shifted, sparsestmax(parameters, radius), rtol=0, atol=1e-7)


@given(distinct_parameters(), st.sampled_from(SHARES), st.randoms())
def test_candidates_have_no_favourite_place(parameters, share, random):
    radius = share * find_largest_radius(len(parameters))
    order = list(range(len(parameters)))
    random.shuffle(order)
    torch.testing.assert_close(sparsestmax(parameters[order], radius), sparsestmax(parameters, radius)[order])


def test_a_batch_is_its_rows_and_any_axis_will_do():
    parameters = torch.randn(3, 4, 6, dtype=torch.float64)
    for share in SHARES:
        radius = share * find_largest_radius(6)
        rows = torch.stack([sparsestmax(row, radius) for row in parameters.flatten(0, 1)]).view_as(parameters)
        assert torch.equal(sparsestmax(parameters, radius), rows)
        assert torch.equal(sparsestmax(parameters.movedim(2, 0), radius, dim=0).movedim(0, 2), rows)


@pytest.mark.parametrize("share", [0.0, 0.4, 0.8])
def test_gradients_inside_a_face(share):
    parameters = torch.tensor([[0.5, 0.31, 0.2, -0.4], [0.1, 0.15, 0.3, 0.21]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: sparsestmax(values, share * find_largest_radius(4)), (parameters,))


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("values", [[1, 1, 1, 1], [2, 2, 0, 0], [0, 3, 3, 3], [5, 1, 1, 1], [0, 0, 0, 1e-300]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties_give_numbers_and_the_lowest_index(values, share, dtype):
    parameters = torch.tensor(values, dtype=dtype, requires_grad=True)
    mixture = sparsestmax(parameters, share * find_largest_radius(4))
    mixture[1].backward()
    assert mixture.isfinite().all()
    assert parameters.grad.isfinite().all()
    assert mixture.sum().item() == pytest.approx(1, abs=1e-6)
    assert mixture.square().sum() >= share**2 * 0.75 + 0.25 - 1e-6
    assert mixture[parameters.argmax()] == mixture.max()


def test_one_candidate_is_always_chosen():
    assert sparsestmax(torch.tensor([[3.0], [-2.0]]), 0.0).tolist() == [[1.0], [1.0]]


def test_a_negative_radius_is_refused():
    with pytest.raises(ValueError, match="radius must not be negative, got -1"):
        sparsestmax(torch.zeros(3), -1)


CHAIN = torch.ones(9, 9, dtype=torch.float64).triu()


@given(distinct_parameters(), st.floats(0, 1))
def test_survival_never_grows_along_a_chain_and_starts_at_one(parameters, share):
    count = len(parameters)
    alive = survival(sparsestmax(parameters, share * find_largest_radius(count)), CHAIN[:count, :count])
    assert alive[0].item() == pytest.approx(1, abs=1e-9)
    assert (alive.diff() <= 1e-12).all()


def test_survival_weighs_what_each_depth_adds():
    mixture = sparsemax(torch.randn(5, dtype=torch.float64))
    features = torch.randn(5, 3, dtype=torch.float64)
    added = torch.cat([features[:1], features.diff(dim=0)])
    torch.testing.assert_close(survival(mixture, CHAIN[:5, :5]) @ added, mixture @ features)


def test_survival_of_a_choice_is_a_prefix_of_ones():
    chosen = torch.tensor([0, 0, 1, 0], dtype=torch.float64)
    assert survival(chosen, CHAIN[:4, :4]).tolist() == [1, 1, 1, 0]
