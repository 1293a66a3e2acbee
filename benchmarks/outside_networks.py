"""Networks from outside through the whole flow: trained, exported as programs, judged in every format.

    python benchmarks/outside_networks.py --data lspet/ [-o runs/outside] [--networks efficientnet,shuffle]

Each network of docs/examples/networks.py learns from the labels of a set's train part and from the heatmaps of the
bundled lspd-s, on views turned and scaled at random. A run that was stopped goes on where its checkpoint is. The
network is written with ``torch.export.save``, as a user's would be, and goes through ``lspdmobile export``.
"""

import argparse
import random
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.data.coco import read_labelled_set
from lspdmobile.decode import decode
from lspdmobile.preprocess import PreprocessContract
from lspdmobile.student import Student, load_student
from lspdmobile.train.config import TrainConfig
from lspdmobile.train.depthwise import FastDepthwise
from lspdmobile.train.lessons import Lessons, offline_network
from lspdmobile.train.losses import Targets
from lspdmobile.train.samples import Samples, labelled_samples
from lspdmobile.train.schedule import Schedule
from lspdmobile.train.state import CHECKPOINT, TrainingState

EXAMPLES: Final = Path(__file__).parent.parent / "docs" / "examples"
LABELS: Final = "annotations/person_keypoints_train.json"
GUESSES: Final = "annotations/teacher_movenet_thunder_train.json"
"""Keypoints of a teacher, which mend the labels where the set has them."""
_SIMCC_SD: Final = 6.0
_SAVE_EVERY_S: Final = 60


@dataclass(frozen=True)
class Kind:
    """A network of the examples: its factory with arguments, its head, and its learning rate."""

    factory: str
    arguments: dict[str, Any]
    head: str = "heatmap"
    learning_rate: float = 2.5e-3


KINDS: Final = {
    "efficientnet": Kind("efficientnet_pose", {}, learning_rate=2e-3),
    "shuffle": Kind("shuffle_pose", {}),
    "baseline": Kind("simple_baseline", {}),
    "simcc": Kind("shuffle_pose", {"head": "simcc"}, "simcc"),
    "regression": Kind("shuffle_pose", {"head": "regression"}, "regression"),
}


def training(kind: Kind, epochs: int) -> TrainConfig:
    """Say how a network is trained: two thirds of the epochs on views of 128 pixels where its head allows that."""
    small = 2 * epochs // 3 if kind.head == "heatmap" else 0
    sizes = ((128, small), (192, epochs - small))
    return TrainConfig.model_validate(
        {
            "recipe": "lspd",  # this and the preset are asked for; what trains is another network
            "preset": "lspd-s",
            "phases": [{"size": size, "epochs": count} for size, count in sizes if count],
            "data": {"train": LABELS},
            "offline": {"network": "lspd-s", "weight": 3.0},
            "learning_rate": kind.learning_rate,
            "weight_decay": 0.02,
        }
    )


def loss_of(head: str, outputs: Any, targets: Targets, contract: PreprocessContract) -> Tensor:
    """Give the loss of what a head gives for square views; heads without heatmaps learn from the labels alone."""
    if head == "heatmap":
        return targets.loss(outputs.float())
    points = decode(targets.labels.heatmaps.numpy(), contract=contract)
    x, y, _ = torch.from_numpy(points).unbind(-1)
    known = targets.labels.joints
    rows, columns = contract.input_size
    if head == "regression":
        wanted = torch.stack((x / columns, y / rows), -1)
        return 10 * ((outputs.float() - wanted).abs() * known[..., None]).mean()

    def strips(scores: Tensor, place: Tensor) -> Tensor:
        centres = (torch.arange(scores.shape[-1]) + 0.5) / 2
        wanted = torch.softmax(-0.5 * ((centres - place[..., None]) / _SIMCC_SD) ** 2, -1)
        return -((wanted * F.log_softmax(scores.float(), -1)).sum(-1) * known).mean()

    return strips(outputs[0], x) + strips(outputs[1], y)


def trained(network: nn.Module, head: str, config: TrainConfig, lessons: Lessons, folder: Path) -> nn.Module:
    """Train, or go on; gives the averaged network in eval mode."""
    schedule = Schedule(config=config, pictures=len(lessons.samples))
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = TrainingState(network, config, pictures=len(lessons.samples))
    if (folder / CHECKPOINT).is_file():
        state.resume(folder / CHECKPOINT, config, "cpu")
    saved = time.perf_counter()
    for index in schedule.batches(state.step):
        inputs, targets = lessons.draw(
            index, size=schedule.size_at(state.step), generator=torch.Generator().manual_seed(state.step)
        )
        for group in state.optimizer.param_groups:
            group["lr"] = schedule.learning_rate(state.step)
        with torch.autocast("cpu", torch.bfloat16), FastDepthwise():
            outputs = state.network(inputs)
        loss = loss_of(head, outputs, targets, lessons.contract)
        state.optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
        state.advance(loss.item(), config.ema)
        if time.perf_counter() - saved > _SAVE_EVERY_S or state.step == schedule.total:
            state.save(config, folder)
            saved = time.perf_counter()
            print(f"step {state.step} of {schedule.total}, loss {state.smooth:.3f}", flush=True)
    return state.ema.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload,no-any-return]


def made(name: str, samples: Samples, teacher: Student, options: argparse.Namespace) -> tuple[Path, Path]:
    """Train one network and write it with its contract file."""
    import networks

    kind = KINDS[name]
    config = training(kind, options.epochs)
    lessons = Lessons(
        config=config,
        samples=samples,
        contract=teacher.contract,
        skeleton=teacher.skeleton,
        teacher=offline_network(config, teacher.contract, teacher.skeleton, "cpu"),
        device="cpu",
    )
    folder = options.output / f"{name}-training"
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    network = trained(getattr(networks, kind.factory)(**kind.arguments), kind.head, config, lessons, folder)
    file, contract = program_of(name, options.output)
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, *teacher.contract.input_size),)), file)
    text = (EXAMPLES / "contract.toml").read_text(encoding="utf-8")
    contract.write_text(text.replace('head = "heatmap"', f'head = "{kind.head}"'), encoding="utf-8")
    return file, contract


def samples_of(folder: Path, count: int, contract: PreprocessContract) -> Samples:
    """Read some of the train part of a labelled set."""
    labelled = read_labelled_set(folder / LABELS)
    persons = random.Random(0).sample(labelled.persons, min(count, len(labelled.persons)))
    guesses = folder / GUESSES
    teacher = guesses if guesses.is_file() else None
    return labelled_samples(replace(labelled, persons=tuple(persons)), contract, teacher=teacher)


def program_of(name: str, folder: Path) -> tuple[Path, Path]:
    """Say where a network's program and its contract file are."""
    return folder / f"{name}.pt2", folder / f"{name}.toml"


def main() -> int:
    """Train, export and judge what was asked for; gives the worst exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="learn on its train part, judge on its val part")
    parser.add_argument("--networks", default="efficientnet,shuffle", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--pictures", type=int, default=3000, help="learn on at most this many")
    parser.add_argument("--precision", default="fp16,w8a8")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/outside"))
    options = parser.parse_args()
    sys.path.insert(0, str(EXAMPLES))
    options.output.mkdir(parents=True, exist_ok=True)
    teacher, samples, worst = load_student("lspd-s"), None, 0
    for name in options.networks.split(","):
        start = time.perf_counter()
        file, contract = program_of(name, options.output)
        if not file.exists():
            samples = samples or samples_of(options.data, options.pictures, teacher.contract)
            made(name, samples, teacher, options)
        command = [sys.executable, "-m", "lspdmobile", "export", str(file), "--contract", str(contract), "--overwrite"]
        command += ["-f", "all", "-p", options.precision, "-o", str(options.output / name)]
        command += ["--data", str(options.data), "--calib", str(options.data)]
        code = subprocess.run(command, check=False).returncode
        print(f"{name}: exit code {code}, {time.perf_counter() - start:.0f} s", flush=True)
        worst = max(worst, code)
    return worst


if __name__ == "__main__":
    sys.exit(main())
