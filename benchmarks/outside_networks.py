"""Networks from outside through the whole flow: trained for a moment, exported as programs, judged in every format.

    python benchmarks/outside_networks.py [--data lspet/] [--steps 1500] [-o runs/outside] [--networks baseline,shuffle]

Each network of docs/examples/networks.py learns to imitate the bundled lspd-s on pictures (the train part of a labelled
set, else the bundled calibration pictures): not a good student, but one whose results mean something, which random
weights do not. It is written with ``torch.export.save``, as a user's would be, and goes through ``lspdmobile export``.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspdmobile.data.bundled import bundled_calibration_pictures
from lspdmobile.data.views import find_views
from lspdmobile.decode import decode
from lspdmobile.student import Student, load_student
from lspdmobile.train.config import TrainConfig
from lspdmobile.train.depthwise import FastDepthwise
from lspdmobile.train.optimizer import optimizer_for

EXAMPLES: Final = Path(__file__).parent.parent / "docs" / "examples"
NETWORKS: Final[dict[str, tuple[str, dict[str, Any], str]]] = {
    "baseline": ("simple_baseline", {}, "heatmap"),
    "shuffle": ("shuffle_pose", {}, "heatmap"),
    "simcc": ("shuffle_pose", {"head": "simcc"}, "simcc"),
    "regression": ("shuffle_pose", {"head": "regression"}, "regression"),
}
BATCH: Final = 24
CONFIG: Final = TrainConfig.model_validate(
    {
        "recipe": "lspd",
        "preset": "lspd-s",
        "phases": [{"size": 192, "epochs": 1}],
        "data": {"train": ""},
        "optimizer": "muon",
        "learning_rate": 8e-3,
        "weight_decay": 0.02,
    }
)
"""Of which the optimizer's settings are used."""
_SIMCC_SD: Final = 6.0


def target_of(head: str, heatmaps: Tensor, teacher: Student) -> Callable[[Any], Tensor]:
    """Give the loss of what a head gives, against the teacher's heatmaps ``[N, K, h, w]``."""
    points = decode(heatmaps.numpy(), contract=teacher.contract, rule=teacher.decode_rule)
    x, y, score = torch.from_numpy(points).unbind(-1)
    sure = (score > 0.2).float()
    rows, columns = teacher.contract.input_size
    if head == "heatmap":
        return lambda maps: 100 * F.mse_loss(maps, heatmaps)
    if head == "regression":
        wanted = torch.stack((x / columns, y / rows), -1)
        return lambda found: 10 * ((found - wanted).abs() * sure[..., None]).mean()

    def strips(scores: Tensor, place: Tensor) -> Tensor:
        centres = (torch.arange(scores.shape[-1]) + 0.5) / 2
        wanted = torch.softmax(-0.5 * ((centres - place[..., None]) / _SIMCC_SD) ** 2, -1)
        return -((wanted * F.log_softmax(scores, -1)).sum(-1) * sure).mean()

    return lambda found: strips(found[0], x) + strips(found[1], y)


def lessons_of(teacher: Student, pixels: Any) -> Any:
    """Give the teacher's heatmaps of pictures and of their mirror images: ``[2, N, K, h, w]``, float16."""
    found: list[list[Any]] = [[], []]
    with torch.inference_mode():
        for i in range(0, len(pixels), BATCH):
            inputs = torch.from_numpy(np.stack([teacher.contract.normalise(p) for p in pixels[i : i + BATCH]]))
            for maps, seen in zip(found, (inputs, inputs.flip(3)), strict=True):
                maps.append(teacher.network(seen).half().numpy())
    return np.stack([np.concatenate(maps) for maps in found])


def trained(network: nn.Module, head: str, pixels: Any, lessons: Any, steps: int) -> nn.Module:
    """Imitate lspd-s for some steps; gives the network in eval mode."""
    teacher = load_student("lspd-s")
    network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = optimizer_for(network, CONFIG)
    generator = np.random.default_rng(0)
    for step in range(steps):
        index, side = generator.choice(len(pixels), BATCH, replace=False), int(generator.integers(2))
        inputs = torch.from_numpy(np.stack([teacher.contract.normalise(pixels[i]) for i in index]))
        inputs = (inputs.flip(3) if side else inputs).contiguous(memory_format=torch.channels_last)
        heatmaps = torch.from_numpy(lessons[side, index].astype(np.float32))
        for group in optimizer.param_groups:
            group["lr"] = CONFIG.learning_rate * min(1.0, 20 * (step + 1) / steps) * (1 - step / steps)
        with torch.autocast("cpu", torch.bfloat16), FastDepthwise():
            outputs = network(inputs)
        outputs = tuple(o.float() for o in outputs) if isinstance(outputs, tuple) else outputs.float()
        loss = target_of(head, heatmaps, teacher)(outputs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            print(f"step {step + 1} of {steps}, loss {loss.item():.3f}", flush=True)
    return network.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]


def made(name: str, pixels: Any, lessons: Any, options: argparse.Namespace) -> tuple[Path, Path]:
    """Train one network and write it with its contract file."""
    import networks

    factory, arguments, head = NETWORKS[name]
    torch.manual_seed(0)
    network = trained(getattr(networks, factory)(**arguments), head, pixels, lessons, options.steps)
    file, contract = options.output / f"{name}.pt2", options.output / f"{name}.toml"
    program = torch.export.export(network, (torch.zeros(1, 3, 192, 192),))
    torch.export.save(program, file)
    text = (EXAMPLES / "contract.toml").read_text(encoding="utf-8")
    contract.write_text(text.replace('head = "heatmap"', f'head = "{head}"'), encoding="utf-8")
    return file, contract


def main() -> int:
    """Train, export and judge what was asked for; gives the worst exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="labelled set: learn on its train part, judge on its val part")
    parser.add_argument("--networks", default="baseline,shuffle", help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--pictures", type=int, default=3000, help="learn on at most this many")
    parser.add_argument("--precision", default="fp16,w8a8")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/outside"))
    options = parser.parse_args()
    sys.path.insert(0, str(EXAMPLES))
    options.output.mkdir(parents=True, exist_ok=True)
    teacher = load_student("lspd-s")
    source = options.data or bundled_calibration_pictures()
    views = find_views(source, teacher.contract, teacher.skeleton, split="train", limit=options.pictures)
    missing = [n for n in options.networks.split(",") if not (options.output / f"{n}.pt2").exists()]
    pixels = views.read().pixels if missing else None
    lessons = lessons_of(teacher, pixels) if missing else None
    judged = ["--data", str(options.data), "--calib", str(options.data)] if options.data else []
    worst = 0
    for name in options.networks.split(","):
        start = time.perf_counter()
        file, contract = options.output / f"{name}.pt2", options.output / f"{name}.toml"
        if not file.exists():
            made(name, pixels, lessons, options)
        command = [sys.executable, "-m", "lspdmobile", "export", str(file), "--contract", str(contract), "--overwrite"]
        command += ["-f", "all", "-p", options.precision, "-o", str(options.output / name), *judged]
        code = subprocess.run(command, check=False).returncode
        print(f"{name}: exit code {code}, {time.perf_counter() - start:.0f} s", flush=True)
        worst = max(worst, code)
    return worst


if __name__ == "__main__":
    sys.exit(main())
