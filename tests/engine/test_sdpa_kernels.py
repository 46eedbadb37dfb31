import threading

import pytest
import torch

from gliclass_rerank.runtime.sdpa_kernels import quick_kernels

CUDA = torch.device("cuda")


@pytest.fixture(params=[True, False])
def setting(request):
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(request.param)
    yield request.param
    torch.backends.cuda.enable_cudnn_sdp(before)


def test_cudnns_attention_is_off_on_cuda_and_the_callers_setting_comes_back(setting):
    with quick_kernels(CUDA):
        assert not torch.backends.cuda.cudnn_sdp_enabled()

    assert torch.backends.cuda.cudnn_sdp_enabled() is setting


def test_threads_that_overlap_leave_the_callers_setting(setting):
    both_inside, first_left = threading.Barrier(2, timeout=10), threading.Event()
    found = []

    def later():
        with quick_kernels(CUDA):
            both_inside.wait()
            first_left.wait(10)
            found.append(torch.backends.cuda.cudnn_sdp_enabled())

    thread = threading.Thread(target=later)
    with quick_kernels(CUDA):
        thread.start()
        both_inside.wait()
    first_left.set()
    thread.join()

    assert found == [False]
    assert torch.backends.cuda.cudnn_sdp_enabled() is setting


def test_other_devices_keep_their_setting(setting):
    with quick_kernels(torch.device("cpu")):
        assert torch.backends.cuda.cudnn_sdp_enabled() is setting
