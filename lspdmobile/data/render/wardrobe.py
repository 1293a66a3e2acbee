"""Clothes, skin and hair: the materials of a figure and how far each garment reaches."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

import numpy as np

__all__ = ["Hair", "Material", "Outfit", "Pattern", "random_colour", "sample_outfit"]

Colour: TypeAlias = tuple[float, float, float]

_SKIN: Final[tuple[Colour, ...]] = (
    (0.96, 0.80, 0.69),
    (0.90, 0.71, 0.58),
    (0.82, 0.61, 0.47),
    (0.68, 0.47, 0.34),
    (0.50, 0.33, 0.23),
    (0.34, 0.22, 0.16),
)
_HAIR: Final[tuple[Colour, ...]] = (
    (0.08, 0.06, 0.05),
    (0.18, 0.11, 0.07),
    (0.35, 0.22, 0.12),
    (0.62, 0.46, 0.24),
    (0.80, 0.68, 0.42),
    (0.45, 0.18, 0.08),
    (0.60, 0.60, 0.58),
)


class Pattern(StrEnum):
    """How a material's two colours are laid out."""

    PLAIN = "plain"
    HOOPS = "hoops"
    PINSTRIPES = "pinstripes"
    CHECKS = "checks"
    CAMOUFLAGE = "camouflage"
    SIDE_STRIPE = "side_stripe"


class Hair(StrEnum):
    """Hair styles."""

    BALD = "bald"
    SHORT = "short"
    LONG = "long"
    PONYTAIL = "ponytail"
    BUN = "bun"
    CAP = "cap"


@dataclass(frozen=True, kw_only=True)
class Material:
    """Colours 0 to 1, pattern and its frequency in cycles per body height; ``sheen`` is the highlight's strength."""

    colour: Colour
    second: Colour
    pattern: Pattern = Pattern.PLAIN
    frequency: float = 20.0
    phase: float = 0.0
    sheen: float = 0.05


@dataclass(frozen=True, kw_only=True)
class Outfit:
    """What a figure wears.

    Attributes:
        materials: Skin, top, bottom, hair, shoes, socks: indices are the constants of this class.
        sleeves: Covered arm length in bones: 0 bare, 1 to the elbow, 2 to the wrist.
        legs: Covered leg length likewise.
        looseness: Radius factors of top and bottom.
        split: Trunk height (fraction) where bottom gives way to top.
        bare_chest: The trunk above the split is skin.
        crop: Trunk height below which a short top shows skin; 0 for none.
        hair: Hair style.
        shoes: Whether the feet are shod.
        socks: Covered fraction of the shin, from the ankle.
        collar: Depth of the neckline in body heights.
        badge: Half-width of the print on the chest in body heights; 0 for none.
        number: Whether the back carries a wide print.
        folds: How strongly each material is rippled, as a share of the direct light.
    """

    SKIN = 0
    TOP = 1
    BOTTOM = 2
    HAIR = 3
    SHOES = 4
    SOCKS = 5

    materials: tuple[Material, ...]
    sleeves: float
    legs: float
    looseness: tuple[float, float]
    split: float
    bare_chest: bool
    crop: float
    hair: Hair
    shoes: bool
    socks: float
    collar: float
    badge: float
    number: bool
    folds: tuple[float, ...]


def _tinted(rng: np.random.Generator, colour: Colour, amount: float) -> Colour:
    shift = rng.uniform(-amount, amount, 3) * 0.4 + rng.uniform(-amount, amount)
    r, g, b = np.clip(np.array(colour) + shift, 0.02, 0.98)
    return float(r), float(g), float(b)


def random_colour(rng: np.random.Generator) -> Colour:
    """Draw a garment's or a wall's colour: often black, grey, white or navy, otherwise any hue."""
    kind = rng.random()
    if kind < 0.4:
        grey = float(rng.choice([0.08, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95]))
        return _tinted(rng, (grey, grey, grey), 0.05)
    if kind < 0.55:
        return _tinted(rng, (0.12, 0.17, 0.35), 0.08)
    hue, saturation, value = rng.random() * 6, rng.uniform(0.2, 0.85), rng.uniform(0.25, 0.9)
    ramp = [float(np.clip(abs((hue + k) % 6 - 3) - 1, 0, 1)) for k in (0, 4, 2)]
    r, g, b = (value * (1 - saturation * (1 - c)) for c in ramp)
    return r, g, b


def _cloth(rng: np.random.Generator, *, plain: float) -> Material:
    kinds = (Pattern.HOOPS, Pattern.PINSTRIPES, Pattern.CHECKS, Pattern.CAMOUFLAGE, Pattern.SIDE_STRIPE)
    pattern = Pattern.PLAIN if rng.random() < plain else kinds[int(rng.integers(len(kinds)))]
    return Material(
        colour=random_colour(rng),
        second=random_colour(rng),
        pattern=pattern,
        frequency=float(rng.uniform(10, 36)),
        phase=float(rng.random()),
        sheen=float(rng.choice([0.0, 0.03, 0.12])),
    )


def _materials(rng: np.random.Generator, *, one_piece: bool) -> tuple[Material, ...]:
    skin = _tinted(rng, _SKIN[int(rng.integers(len(_SKIN)))], 0.04)
    hair = _tinted(rng, _HAIR[int(rng.integers(len(_HAIR)))], 0.03)
    top = _cloth(rng, plain=0.55)
    bottom = top if one_piece else _cloth(rng, plain=0.75)
    shoes = Material(colour=random_colour(rng), second=random_colour(rng), sheen=0.1)
    socks = Material(colour=random_colour(rng), second=random_colour(rng))
    return (
        Material(colour=skin, second=skin, sheen=0.12),
        top,
        bottom,
        Material(colour=hair, second=hair, sheen=0.15),
        shoes,
        socks,
    )


def sample_outfit(rng: np.random.Generator, *, woman: bool) -> Outfit:
    """Draw an outfit: sports clothes, street clothes, leotards, bare chests."""
    one_piece = bool(rng.random() < (0.22 if woman else 0.05))
    bare_chest = not one_piece and not woman and bool(rng.random() < 0.18)
    crop = 0.55 if woman and not one_piece and rng.random() < 0.15 else 0.0
    sleeves = float(rng.choice([0.0, 0.25, 0.55, 0.8, 1.9, 2.0], p=[0.2, 0.1, 0.3, 0.1, 0.15, 0.15]))
    legs = float(rng.choice([0.12, 0.4, 0.8, 1.3, 1.85, 2.0], p=[0.1, 0.2, 0.15, 0.08, 0.22, 0.25]))
    if one_piece:
        sleeves, legs = float(rng.choice([0.0, 2.0])), float(rng.choice([0.0, 0.0, 2.0]))
    shoes = bool(rng.random() < (0.35 if one_piece else 0.8))
    tight = one_piece or rng.random() < 0.3
    top_folds, bottom_folds = (0.05, 0.05) if tight else (float(rng.uniform(0.1, 0.35)), float(rng.uniform(0.1, 0.3)))
    styles = (
        (Hair.LONG, Hair.PONYTAIL, Hair.BUN, Hair.SHORT) if woman else (Hair.SHORT, Hair.SHORT, Hair.BALD, Hair.CAP)
    )
    return Outfit(
        materials=_materials(rng, one_piece=one_piece),
        sleeves=0.0 if bare_chest else sleeves,
        legs=legs,
        looseness=(1.03 if tight else float(rng.uniform(1.08, 1.35)), 1.04 if tight else float(rng.uniform(1.08, 1.4))),
        split=float(rng.uniform(0.12, 0.3)),
        bare_chest=bare_chest,
        crop=crop,
        hair=styles[int(rng.integers(len(styles)))],
        shoes=shoes,
        socks=float(rng.choice([0.0, 0.12, 0.3, 0.85], p=[0.4, 0.3, 0.2, 0.1])),
        collar=float(rng.uniform(0.0, 0.05)),
        badge=float(rng.choice([0.0, 0.02, 0.04, 0.055])),
        number=bool(rng.random() < 0.2),
        folds=(0.02, top_folds, bottom_folds, 0.16, 0.05, 0.05),
    )
