"""Muon beside AdamW: who moves which weight, by the published rule, in the weights' own memory."""

import pytest
import torch
from torch import Tensor, nn

from lspdmobile.networks.lspd import LspdChain, LspdConfig
from lspdmobile.train.config import TrainConfig
from lspdmobile.train.optimizer import optimizer_for

RATE = 0.01


def config_of(**changes: object) -> TrainConfig:
    fields = {
        "recipe": "lspd",
        "preset": "lspd-s",
        "learning_rate": RATE,
        "weight_decay": 0.1,
        "phases": [{"size": 64, "epochs": 1}],
        "data": {"rendered": 2},
        "optimizer": "muon",
        **changes,
    }
    return TrainConfig.model_validate(fields)


@pytest.fixture(params=[torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"])
def chain(request: pytest.FixtureRequest, tiny_config: LspdConfig) -> LspdChain:
    torch.manual_seed(0)
    return laid_out(LspdChain(tiny_config), request.param)


def laid_out(chain: LspdChain, layout: torch.memory_format) -> LspdChain:
    for parameter in chain.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return chain


def with_gradients(chain: LspdChain, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in chain.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def moved_by(chain: LspdChain, config: TrainConfig) -> dict[str, Tensor]:
    """Give each parameter's change over one step, before weight decay."""
    before = {name: p.detach().clone() for name, p in chain.named_parameters()}
    optimizer_for(chain, config).step()
    return {name: p.detach() - before[name] for name, p in chain.named_parameters()}


def test_muon_moves_hidden_dense_convolutions_along_orthogonal_matrices(chain: LspdChain) -> None:
    """All singular values are near 0.2 * sqrt(longer side) * rate; Muon's five rounds end in 0.68..1.13."""
    with_gradients(chain)
    moved = moved_by(chain, config_of(weight_decay=0))
    hidden = [n for n in moved if _is_hidden(n, chain)]
    assert hidden
    for name in hidden:
        matrix = moved[name].flatten(1)
        spread = torch.linalg.svdvals(matrix) / (0.2 * max(matrix.shape) ** 0.5 * RATE)
        assert 0.5 < float(spread.min()) <= float(spread.max()) < 1.3, name


def test_the_others_move_as_adamw_moves_them(chain: LspdChain) -> None:
    with_gradients(chain)
    moved = moved_by(chain, config_of(weight_decay=0))
    for name in set(moved) - {n for n in moved if _is_hidden(n, chain)}:
        torch.testing.assert_close(moved[name].abs(), torch.full_like(moved[name], RATE), rtol=1e-3, atol=1e-6)


def test_the_update_does_not_depend_on_the_layout_of_memory(tiny_config: LspdConfig) -> None:
    changes = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        chain = laid_out(LspdChain(tiny_config), layout)
        with_gradients(chain)
        changes.append(moved_by(chain, config_of()))
    for name, change in changes[0].items():
        torch.testing.assert_close(change, changes[1][name], rtol=0.05, atol=0.05 * RATE)


def test_a_resumed_optimizer_takes_the_steps_of_an_uninterrupted_one(tiny_config: LspdConfig) -> None:
    torch.manual_seed(0)
    straight, resumed = LspdChain(tiny_config), LspdChain(tiny_config)
    resumed.load_state_dict(straight.state_dict())
    first, before = optimizer_for(straight, config_of()), optimizer_for(resumed, config_of())
    for optimizer, chain in ((first, straight), (before, resumed)):
        with_gradients(chain)
        optimizer.step()
    after = optimizer_for(resumed, config_of())
    after.load_state_dict(before.state_dict())
    for optimizer, chain in ((first, straight), (after, resumed)):
        with_gradients(chain, seed=2)
        optimizer.step()
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_gradients_are_forgotten(chain: LspdChain) -> None:
    with_gradients(chain)
    optimizer_for(chain, config_of()).zero_grad()
    assert all(p.grad is None for p in chain.parameters())


def test_the_rate_of_every_group_can_be_set(chain: LspdChain) -> None:
    with_gradients(chain)
    optimizer = optimizer_for(chain, config_of(weight_decay=0))
    before = [p.detach().clone() for p in chain.parameters()]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    assert all(torch.equal(p, old) for p, old in zip(chain.parameters(), before, strict=True))


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_norms_and_biases_are_not_decayed(name: str, chain: LspdChain) -> None:
    for parameter in chain.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = {n: p.detach().clone() for n, p in chain.named_parameters()}
    moved = moved_by(chain, config_of(optimizer=name))
    for key, change in moved.items():
        decay = 0.1 if before[key].ndim > 1 else 0.0
        torch.testing.assert_close(change, -RATE * decay * before[key], rtol=1e-3, atol=1e-7)


def _is_hidden(name: str, chain: LspdChain) -> bool:
    module = chain.get_submodule(name.rpartition(".")[0])
    return (
        isinstance(module, nn.Conv2d)
        and name.endswith("weight")
        and module.groups == 1
        and module.in_channels != 3
        and not name.endswith("heatmap.weight")
    )
