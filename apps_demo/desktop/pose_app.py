"""Draw the skeletons that an exported pose network finds on pictures.

    python apps_demo/desktop/pose_app.py RUN_DIR PICTURE_OR_FOLDER [--artifact NAME] [-o OUT_DIR]

It shows how an app uses an artifact: everything it knows comes from the run's ``manifest.json``. Before it draws
anything it runs the picture in ``golden/`` and compares with the keypoints written there.

Exit codes: 0 done, 2 wrong usage or bad input, 3 the self-test failed.
"""

import argparse
import json
import math
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

Array = NDArray[np.float32]
Network = Callable[[Array], Array]  # pictures [1, 3, H, W] to heatmaps [K, h, w]

SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
GOLDEN_SCORE: Final = 0.2
SELF_TEST_FAILED: Final = 3


# The network: three runtimes, one shape in, one shape out.


def open_network(run: Path, artifact: dict[str, Any]) -> Network:
    """Load an artifact with its runtime; ``artifact`` is its entry in the manifest."""
    opener = {"tflite": _tflite, "executorch": _executorch, "coreml": _coreml}[artifact["format"]]
    return opener(run / artifact["file"], artifact)


def _tflite(path: Path, artifact: dict[str, Any]) -> Network:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path), num_threads=1).get_signature_runner()

    def run(pictures: Array) -> Array:
        result = runner(**{artifact["input"]["name"]: _to_layout(pictures, artifact)})
        return _from_layout(result[artifact["output"]["name"]], artifact)

    return run


def _executorch(path: Path, artifact: dict[str, Any]) -> Network:
    if artifact.get("backend") == "coreml" and platform.system() != "Darwin":
        from converters.executorch_coreml import open_executor

        return _executed(open_executor(path), artifact)
    import torch
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")

    def run(pictures: Array) -> Array:
        tensor = torch.from_numpy(_to_layout(pictures, artifact))
        return _from_layout(method.execute([tensor])[0].numpy(), artifact)

    return run


def _coreml(path: Path, artifact: dict[str, Any]) -> Network:
    if platform.system() != "Darwin":  # Core ML itself runs on Apple's systems only
        from converters.coreml import open_executor

        return _executed(open_executor(path), artifact)
    from coremltools.models import MLModel

    model = MLModel(str(path))

    def run(pictures: Array) -> Array:
        result = model.predict({artifact["input"]["name"]: _to_layout(pictures, artifact)})
        return _from_layout(result[artifact["output"]["name"]], artifact)

    return run


def _executed(executor: Any, artifact: dict[str, Any]) -> Network:
    """Stand our interpreter of Core ML programs in for Core ML."""
    return lambda pictures: _from_layout(executor.heatmaps(pictures), artifact)


def _to_layout(pictures: Array, artifact: dict[str, Any]) -> Array:
    """Order the axes as the artifact wants them; runtimes read memory in order, so it has to be contiguous."""
    ordered = pictures.transpose(0, 2, 3, 1) if artifact["layout"] == "nhwc" else pictures
    return np.array(ordered, np.float32, order="C")


def _from_layout(heatmaps: Array, artifact: dict[str, Any]) -> Array:
    first: Array = heatmaps[0].transpose(2, 0, 1) if artifact["layout"] == "nhwc" else heatmaps[0]
    return first


# Before the network: the preprocess contract.


def preprocess(picture: Image.Image, contract: dict[str, Any]) -> tuple[Array, Callable[[Array], Array]]:
    """Fit a whole picture into the input, its surroundings filled with the mean colour.

    Returns:
        The input ``[1, 3, H, W]``, and a function that maps keypoints ``[K, 3]`` from input to picture pixels.
    """
    rows, columns = contract["input_size"]
    mean, std = np.asarray(contract["mean"], np.float32), np.asarray(contract["std"], np.float32)
    bgr = contract["colour_order"] == "bgr"
    width = max(picture.width, picture.height * columns / rows)
    height = width * rows / columns
    left, top = (picture.width - width) / 2, (picture.height - height) / 2
    x0, y0 = math.floor(left), math.floor(top)
    fill = tuple(int(v) for v in np.rint((mean[::-1] if bgr else mean) * 255))
    canvas = Image.new("RGB", (math.ceil(left + width) - x0, math.ceil(top + height) - y0), fill)
    canvas.paste(picture, (-x0, -y0))
    box = (left - x0, top - y0, left - x0 + width, top - y0 + height)
    resized = canvas.resize((columns, rows), Image.Resampling.BILINEAR, box=box)
    pixels = np.asarray(resized, np.float32) / np.float32(255)
    normal = ((pixels[..., ::-1] if bgr else pixels) - mean) / std

    def to_picture(points: Array) -> Array:
        scale = np.asarray([width / columns, height / rows, 1], np.float32)
        return points * scale + np.asarray([left, top, 0], np.float32)

    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None]), to_picture


# After the network: heatmaps, strips or coordinates to keypoints.


def decode(maps: Array, contract: dict[str, Any], rule: str) -> Array:
    """Find each joint by the manifest's rule.

    Returns:
        ``[K, 3]``: x and y in input pixels, score.
    """
    rows, columns = contract["input_size"]
    if rule == "simcc":
        return _strips(maps[:, 0], rows, columns)
    if rule in ("regression", "regression-pixels"):
        points = np.ones((len(maps), 3), np.float32)
        points[:, : maps.shape[2]] = maps[:, 0]
        return points * np.asarray([columns, rows, 1] if rule == "regression" else [1, 1, 1], np.float32)
    return _peaks(maps, contract["heatmap_stride"], rule)


def _strips(scores: Array, rows: int, columns: int) -> Array:
    """The best of the vertical strips, which come first, and of the horizontal ones: their centres, the lower score."""
    across = round(scores.shape[1] * columns / (rows + columns))
    x, y = scores[:, :across], scores[:, across:]
    left, top = (x.argmax(1) + 0.5) * columns / x.shape[1], (y.argmax(1) + 0.5) * rows / y.shape[1]
    return np.stack([left, top, np.minimum(x.max(1), y.max(1))], 1).astype(np.float32)


def _peaks(heatmaps: Array, stride: int, rule: str) -> Array:
    refine = {"dark": _dark, "quarter": _quarter, "soft-argmax": _soft_argmax}[rule]
    points = np.zeros((len(heatmaps), 3), np.float32)
    for joint, heatmap in enumerate(heatmaps):
        y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
        dx, dy = refine(heatmap, int(x), int(y))
        rows, columns = heatmap.shape
        points[joint, 0] = np.clip(x + 0.5 + dx, 0, columns) * stride
        points[joint, 1] = np.clip(y + 0.5 + dy, 0, rows) * stride
        points[joint, 2] = heatmap[y, x]
    return points


def _quarter(heatmap: Array, x: int, y: int) -> tuple[float, float]:
    """A quarter cell towards the larger neighbour; none on an axis where the peak is at the border."""
    inside_x, inside_y = _inside(heatmap, x, y)
    dx = 0.25 * np.sign(heatmap[y, x + 1] - heatmap[y, x - 1]) if inside_x else 0.0
    dy = 0.25 * np.sign(heatmap[y + 1, x] - heatmap[y - 1, x]) if inside_y else 0.0
    return float(dx), float(dy)


def _dark(heatmap: Array, x: int, y: int) -> tuple[float, float]:
    """Newton step on the logarithm of the smoothed heatmap; none on an axis where the peak is at the border."""
    taps = np.exp(-0.5 * (np.arange(-2, 3) / 0.8) ** 2)
    taps /= taps.sum()
    rows, columns = heatmap.shape
    padded = np.pad(heatmap, 2)
    across = sum((tap * padded[:, i : i + columns] for i, tap in enumerate(taps)), np.zeros(()))
    smooth = sum((tap * across[i : i + rows] for i, tap in enumerate(taps)), np.zeros(()))
    log = np.log(np.maximum(np.pad(smooth, 1, mode="edge")[y : y + 3, x : x + 3], 1e-6))
    inside_x, inside_y = _inside(heatmap, x, y)
    gx, hxx = ((log[1, 2] - log[1, 0]) / 2, log[1, 2] - 2 * log[1, 1] + log[1, 0]) if inside_x else (0.0, -1.0)
    gy, hyy = ((log[2, 1] - log[0, 1]) / 2, log[2, 1] - 2 * log[1, 1] + log[0, 1]) if inside_y else (0.0, -1.0)
    hxy = (log[2, 2] - log[2, 0] - log[0, 2] + log[0, 0]) / 4 if inside_x and inside_y else 0.0
    determinant = hxx * hyy - hxy**2
    if not (determinant > 1e-9 and hxx < 0):
        return 0.0, 0.0
    dx, dy = (hxy * gy - hyy * gx) / determinant, (hxy * gx - hxx * gy) / determinant
    return float(np.clip(dx, -0.75, 0.75)), float(np.clip(dy, -0.75, 0.75))


def _soft_argmax(heatmap: Array, x: int, y: int) -> tuple[float, float]:
    """Mean position of the positive values around the peak, as far as two cells and no farther than the border."""
    rows, columns = heatmap.shape
    reach_x, reach_y = min(2, x, columns - 1 - x), min(2, y, rows - 1 - y)
    weight = np.maximum(heatmap[y - reach_y : y + reach_y + 1, x - reach_x : x + reach_x + 1], 0)
    total = max(float(weight.sum()), 1e-6)
    dx = (weight * np.arange(-reach_x, reach_x + 1)).sum()
    dy = (weight * np.arange(-reach_y, reach_y + 1)[:, None]).sum()
    return float(dx / total), float(dy / total)


def _inside(heatmap: Array, x: int, y: int) -> tuple[bool, bool]:
    return 0 < x < heatmap.shape[1] - 1, 0 < y < heatmap.shape[0] - 1


# The app.


def self_test(run: Path, manifest: dict[str, Any], network: Network) -> str | None:
    """Run the golden picture and print the largest difference; gives what is wrong, or None.

    Joints that the float student itself scores below 0.2 are left out; more than one heatmap cell is wrong.
    """
    golden, cell = manifest["golden"], manifest["contract"]["heatmap_stride"]
    expected = np.asarray(json.loads((run / golden["expected"]).read_text(encoding="utf-8"))["keypoints"], np.float32)
    found = decode(network(np.load(run / golden["input"])), manifest["contract"], manifest["decode_rule"])
    sure = expected[:, 2] >= GOLDEN_SCORE
    if found.shape != expected.shape or not sure.any():
        return f"nothing to compare: {int(sure.sum())} of {len(expected)} joints have a score of {GOLDEN_SCORE} or more"
    distance = np.where(sure, np.hypot(*(found - expected)[:, :2].T), 0)
    worst = int(distance.argmax())
    joint = manifest["skeleton"]["keypoints"][worst]
    print(f"self-test: largest difference {distance[worst]:.2f} px ({joint}) over {int(sure.sum())} joints")
    if distance[worst] <= cell:
        return None
    return f"{joint} is off by {distance[worst]:.2f} px and a heatmap cell has {cell}; export again"


def draw(picture: Image.Image, points: Array, limbs: list[list[int]], threshold: float) -> Image.Image:
    """Draw the limbs and joints that score at least the threshold on a copy."""
    drawn = picture.copy()
    canvas = ImageDraw.Draw(drawn)
    stroke = max(2, max(picture.size) // 160)
    seen = [(float(x), float(y)) if score >= threshold else None for x, y, score in points]
    for start, end in ((seen[a], seen[b]) for a, b in limbs):
        if start is not None and end is not None:
            canvas.line((start, end), fill=(255, 145, 0), width=stroke)
    for point in seen:
        if point is not None:
            canvas.circle(point, stroke, fill=(255, 255, 255))
    return drawn


def main(arguments: list[str] | None = None) -> int:
    """Run the app; gives its exit code."""
    options = _options(arguments)
    try:
        manifest = json.loads((options.run / "manifest.json").read_text(encoding="utf-8"))
        artifact = _chosen(manifest, options.artifact)
        pictures = _pictures(options.pictures, options.out, overwrite=options.overwrite)
        print(f"{artifact['file']}: {artifact['format']}, {artifact['precision']}")
        network = open_network(options.run, artifact)
        if fault := self_test(options.run, manifest, network):
            print(f"error: the self-test failed: {fault}", file=sys.stderr)
            return SELF_TEST_FAILED
        for source, target in pictures.items():
            picture = ImageOps.exif_transpose(Image.open(source)).convert("RGB")
            inputs, to_picture = preprocess(picture, manifest["contract"])
            points = to_picture(decode(network(inputs), manifest["contract"], manifest["decode_rule"]))
            target.parent.mkdir(parents=True, exist_ok=True)
            draw(picture, points, manifest["skeleton"]["limbs"], options.threshold).save(target)
            print(target)
    except (OSError, ValueError, KeyError, ImportError) as error:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Draw the skeletons that an exported pose network finds.")
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="folder that lspdmobile export left")
    parser.add_argument("pictures", type=Path, metavar="PICTURE_OR_FOLDER", help="each picture shows one person")
    parser.add_argument("--artifact", metavar="NAME", help="file of the run; default: the first in its manifest")
    parser.add_argument("-o", "--out", type=Path, default=Path("poses"), metavar="OUT_DIR", help="default: poses")
    parser.add_argument("--threshold", type=float, default=0.2, help="draw joints with at least this score")
    parser.add_argument("--overwrite", action="store_true", help="replace drawings of an earlier run")
    return parser.parse_args(arguments)


def _chosen(manifest: dict[str, Any], name: str | None) -> dict[str, Any]:
    artifacts: dict[str, dict[str, Any]] = {entry["file"]: entry for entry in manifest["artifacts"]}
    if not artifacts or (name and name not in artifacts):
        message = f"no artifact {name or ''} in this run; it has {', '.join(artifacts) or 'none'}"
        raise ValueError(message)
    return artifacts[name or next(iter(artifacts))]


def _pictures(source: Path, out: Path, *, overwrite: bool) -> dict[Path, Path]:
    """Give every picture and the file its drawing goes to."""
    files = [source]
    if source.is_dir():
        files = sorted(p for p in source.iterdir() if p.suffix.lower() in SUFFIXES)
    if not files or not source.exists():
        message = f"{source}: no picture there"
        raise ValueError(message)
    targets = {file: out / f"{file.stem}_pose.png" for file in files}
    if len(set(targets.values())) < len(targets):
        message = f"{source}: two pictures differ only in their suffix; their drawings would have one name"
        raise ValueError(message)
    existing = [target for target in targets.values() if target.exists()]
    if existing and not overwrite:
        message = f"{existing[0]}: exists; choose another OUT_DIR or pass --overwrite"
        raise ValueError(message)
    return targets


if __name__ == "__main__":
    sys.exit(main())
