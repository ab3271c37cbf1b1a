import pytest
import torch

from trinas.device import torch_threads


@pytest.mark.parametrize("fails", [False, True])
def test_threads_are_as_before_after_the_block(fails):
    before = torch.get_num_threads()
    try:
        with torch_threads(before + 1):
            assert torch.get_num_threads() == before + 1
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert torch.get_num_threads() == before
