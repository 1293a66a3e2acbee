"""The page about the targets, made from their rules and the defaults.

``python -m lspdmobile.fusion.targets_table docs/fusion_targets.md`` writes it. It holds what comes with the package;
what was measured on the machine at hand is not in it.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lspdmobile.fusion.kernel_costs import Coefficients
from lspdmobile.fusion.rules import Rule
from lspdmobile.fusion.targets import Target, default_targets

__all__ = ["targets_page"]

_HEAD: Final = """# Targets of the fusion

<!-- Written by `python -m lspdmobile.fusion.targets_table docs/fusion_targets.md`; change its sources instead. -->

What an operator costs on each target, and which operators stay on its fast path. Costs rank the forms of a block
(`lspdmobile fuse --target`); they do not foretell a network's latency. `python benchmarks/fusion_cost.py` measures
`litert-xnnpack` and `executorch-xnnpack` on the machine it runs on; `--forms` prints how well the prices rank forms.

An operator takes `operator + (pixel * output pixels + element * elements moved + MAC * MACs) / 1000` microseconds, one
thread. How the prices of the targets that are not measured were derived, and what is assumed in them, is said in
`lspdmobile/fusion/published_costs.py`.
"""


def targets_page() -> str:
    """Give the documentation's page."""
    return _HEAD + "".join(f"\n{line}" for target in default_targets().values() for line in _section(target))


def _section(target: Target) -> Iterator[str]:
    yield f"## {target.name}\n"
    yield f"Prices: {target.provenance}.\n"
    yield "| rule | effect | what happens | source | checked |\n|---|---|---|---|---|"
    yield from (_rule(rule) for rule in target.rules)
    yield "\n| kernel | dtype | operator, us | pixel, ns | element, ns | MAC, ns |\n|---|---|---|---|---|---|"
    for dtype, prices in target.prices.items():
        yield from (_price(kind.value, dtype, prices[kind]) for kind in sorted(prices))
    yield ""


def _rule(rule: Rule) -> str:
    return f"| {rule.name} | {rule.effect.value} | {rule.text} | {rule.source} | {rule.checked} |"


def _price(kind: str, dtype: str, price: Coefficients) -> str:
    values = (price.op_us, price.pixel_ns, price.element_ns, price.mac_ns)
    return f"| {kind} | {dtype} | " + " | ".join(f"{value:.3g}" for value in values) + " |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(targets_page(), encoding="utf-8")
