"""The state of a run: its moving average by formula."""

import pytest
import torch

from lspdmobile.networks.lspd import LspdChain, LspdConfig
from lspdmobile.train.config import TrainConfig
from lspdmobile.train.state import TrainingState

CONFIG = TrainConfig.model_validate(
    {"recipe": "lspd", "preset": "tiny", "phases": [{"size": 64, "epochs": 1}], "data": {}, "weight_decay": 0.25}
)
BIAS, NORM = "student.stage.heatmap.bias", "student.stage.entry.norm"


@pytest.fixture
def state(tiny_config: LspdConfig) -> TrainingState:
    return TrainingState(LspdChain(tiny_config), CONFIG, pictures=3)


def test_the_average_begins_as_the_chain_and_follows_it_by_formula(state: TrainingState) -> None:
    """Its decay is (1 + n) / (10 + n) after step n, at most the configured one; here 2/11, 3/12 and then 0.26."""
    expected = torch.zeros(14)
    assert torch.equal(state.ema.get_parameter(BIAS), expected)
    for step, keep in ((1, 2 / 11), (2, 3 / 12), (3, 0.26)):
        with torch.no_grad():
            state.network.get_parameter(BIAS).fill_(float(step))
        state.advance(1.0, 0.26)
        expected = keep * expected + (1 - keep) * step
        torch.testing.assert_close(state.ema.get_parameter(BIAS).detach(), expected)
    assert state.step == 3


def test_norm_statistics_are_averaged_and_counters_copied(state: TrainingState) -> None:
    state.network.get_buffer(f"{NORM}.running_mean").fill_(11.0)
    state.network.get_buffer(f"{NORM}.num_batches_tracked").fill_(7)
    state.advance(1.0, 0.999)
    torch.testing.assert_close(state.ema.get_buffer(f"{NORM}.running_mean"), torch.full((16,), 11 * 9 / 11))
    assert int(state.ema.get_buffer(f"{NORM}.num_batches_tracked")) == 7


def test_the_loss_is_smoothed_from_the_first_step_on(state: TrainingState) -> None:
    state.advance(2.0, 0.9)
    assert state.smooth == 2.0
    state.advance(1.0, 0.9)
    assert state.smooth == pytest.approx(0.98 * 2 + 0.02 * 1)


def test_the_average_is_never_trained(state: TrainingState) -> None:
    assert state.network.training
    assert not state.ema.training
    assert not any(p.requires_grad for p in state.ema.parameters())


def test_norms_and_biases_are_not_decayed(state: TrainingState) -> None:
    decayed, plain = state.optimizer.param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.25, 0)
    assert {p.ndim for p in decayed["params"]} == {4}
    assert {p.ndim for p in plain["params"]} == {1}
    assert len(decayed["params"]) + len(plain["params"]) == len(list(state.network.parameters()))
