"""One network fused for several targets: equal forms are one network, and every certificate has its own prices."""

import pytest
import torch
from torch import nn

from lspdmobile.errors import BadInputError
from lspdmobile.fusion import Fused, fuse_for_targets
from lspdmobile.fusion.probes import relative_error
from lspdmobile.fusion.targets import default_targets

SIZE = (64, 64)
NAMES = ("coreml-ane", "litert-xnnpack", "executorch-xnnpack")


@pytest.fixture
def fused(tiny_student: nn.Module) -> dict[str, Fused]:
    models = default_targets()
    found = fuse_for_targets(tiny_student, [(models[name], "fp32") for name in NAMES], input_size=SIZE)
    return dict(zip(NAMES, found, strict=True))


def test_targets_that_choose_alike_share_a_network(tiny_student: nn.Module, fused: dict[str, Fused]) -> None:
    coreml, litert, executorch = (fused[name] for name in NAMES)
    assert litert.network is executorch.network
    assert coreml.network is not litert.network
    picture = torch.rand(1, 3, *SIZE)
    with torch.no_grad():
        expected = tiny_student(picture)
        assert all(relative_error(expected, each.network(picture)) < 1e-5 for each in fused.values())


def test_every_certificate_says_why_by_its_own_prices(fused: dict[str, Fused]) -> None:
    chosen = {}
    for name, each in fused.items():
        certificate = each.certificate
        assert (certificate.target, certificate.dtype, certificate.passed) == (name, "fp32", True)
        (chosen[name],) = [(site.form, site.choice) for site in certificate.sites if site.choice is not None]
        assert certificate.to_dict()["sites"][0]["name"] == certificate.sites[0].name
    assert chosen["coreml-ane"][0] == "5x5 depthwise"
    assert chosen["litert-xnnpack"][0] == chosen["executorch-xnnpack"][0] == "3x3 d2 depthwise + 3x3 depthwise"
    prices = [choice for _, choice in chosen.values()]
    assert len({choice.cost for choice in prices}) == len(NAMES)
    for choice in prices:
        assert choice.forms == 15, "the ways to share four terms out: 5x5 and 3x3 at two dilations, identity"
        assert choice.apart is not None
        assert choice.one_kernel is not None
        assert choice.cost <= min(choice.apart, choice.one_kernel)


def test_a_network_that_cannot_be_fused_is_refused_as_ever(tiny_student: nn.Module) -> None:
    with pytest.raises(BadInputError, match="train"):
        fuse_for_targets(tiny_student.train(), [(default_targets()["coreml-ane"], "fp32")], input_size=SIZE)
