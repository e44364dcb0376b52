"""Spoil a photograph the way cameras do, each fault with a strength from 0 to 1 as its label.

It knows pixels and strengths; it does not know models, files or words. Lengths are pixels of a photograph
whose long side is LONG_SIDE, because a fault must be visible at the pixels that the tower sees.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageFilter

LONG_SIDE = 480
MODERATE, STRONG = 0.4, 0.8
ANCHORS = (0.0, MODERATE, STRONG, 1.0)

SCALES: dict[str, tuple[float, float, float, float]] = {
    "tilt": (0.0, 6.0, 14.0, 18.0),  # degrees, cropped to the largest upright rectangle
    "underexposure": (0.0, 1.7, 3.0, 3.6),  # EV
    "overexposure": (0.0, 1.3, 2.3, 2.8),  # EV
    "low contrast": (1.0, 0.5, 0.25, 0.17),  # factor around the mean
    "color cast": (0.0, 0.22, 0.45, 0.55),  # share by which red and blue are moved apart
    "defocus": (0.0, 2.5, 6.0, 8.0),  # Gaussian sigma, pixels
    "motion": (1.0, 9.0, 25.0, 32.0),  # path length, pixels
    "noise": (0.0, 22.0, 50.0, 64.0),  # standard deviation, 8 bit
    "low resolution": (1.0, 3.0, 6.0, 8.0),  # divisor
    "jpeg": (60.0, 12.0, 4.0, 2.0),  # quality, interpolated in its logarithm
    "vignetting": (0.0, 1.5, 3.0, 3.6),  # EV that the corners lose
    "lens tilt": (0.0, 0.2, 0.4, 0.5),  # share by which one end of the picture is narrower
    "clipped highlights": (0.0, 0.12, 0.28, 0.36),  # share of the pixels that turn white
    "over-saturation": (1.0, 2.2, 4.0, 5.0),  # factor of the color
}
"""Physical size of each fault at strength 0, moderate, strong and 1."""
FAULTS = tuple(SCALES)
N_MAIN = 10
"""The first so many are those of pocket's goals; the figures of the others stand beside them."""
MAIN_FAULTS, MORE_FAULTS = FAULTS[:N_MAIN], FAULTS[N_MAIN:]
CAMERA_ORDER = ("tilt", "lens tilt", "vignetting", "underexposure", "overexposure", "clipped highlights",
                "low contrast", "over-saturation", "color cast", "defocus", "motion", "noise", "low resolution",
                "jpeg")  # fmt: skip
"""The order in which a camera adds them."""
EXCLUSIVE = (
    {"underexposure", "overexposure"}, {"defocus", "motion"}, {"jpeg", "low resolution"}, {"tilt", "lens tilt"},
    {"overexposure", "clipped highlights"}, {"underexposure", "clipped highlights"},
    {"low contrast", "clipped highlights"}, {"color cast", "over-saturation"}, {"low contrast", "over-saturation"},
)  # fmt: skip
"""Pairs that would hide each other are never put on one photograph."""

Strengths = Mapping[str, float]


def amount(fault: str, strength: float) -> float:
    """Return the physical size of a fault of this strength."""
    scale = SCALES[fault]
    if fault == "jpeg":
        return float(np.exp(np.interp(strength, ANCHORS, np.log(scale))))
    return float(np.interp(strength, ANCHORS, scale))


def fit(image: Image.Image, long_side: int = LONG_SIDE) -> Image.Image:
    """Return the photograph with this long side."""
    factor = long_side / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def spoil(image: Image.Image, strengths: Strengths, rng: np.random.Generator, *, vary: bool = False) -> Image.Image:
    """Return the photograph with these faults, in camera order; the same generator state gives the same pixels.

    With `vary`, each fault is made in one of several ways that cameras know, so that none is learnt by heart.
    """
    for fault in CAMERA_ORDER:
        strength = strengths.get(fault, 0.0)
        if strength > 0:
            add = globals()["add_" + fault.replace(" ", "_").replace("-", "_")]
            image = add(image, amount(fault, strength), rng, vary=vary)
    return image


def largest_upright(width: int, height: int, degrees: float) -> tuple[int, int]:
    """Return the size of the largest upright rectangle inside a rectangle turned by `degrees`."""
    sine, cosine = abs(math.sin(math.radians(degrees))), abs(math.cos(math.radians(degrees)))
    long, short = max(width, height), min(width, height)
    if short <= 2 * sine * cosine * long:
        half = 0.5 * short
        inner = (half / sine, half / cosine) if width >= height else (half / cosine, half / sine)
    else:
        spread = cosine * cosine - sine * sine
        inner = ((width * cosine - height * sine) / spread, (height * cosine - width * sine) / spread)
    return max(8, int(inner[0])), max(8, int(inner[1]))


def add_tilt(image: Image.Image, degrees: float, rng: np.random.Generator, *, vary: bool) -> Image.Image:
    """Turn the camera, to either side."""
    degrees *= rng.choice((-1, 1))
    width, height = largest_upright(*image.size, degrees)
    smooth = not (vary and rng.random() < 0.3)
    turned = image.rotate(degrees, Image.Resampling.BICUBIC if smooth else Image.Resampling.BILINEAR)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return turned.crop((left, top, left + width, top + height))


def expose(image: Image.Image, ev: float, rng: np.random.Generator, *, vary: bool) -> Image.Image:
    """Multiply the light by 2 to the power of `ev`."""
    # Light adds up before the sRGB curve, which is close to a power of 2.2; some editors ignore that.
    gamma = float(rng.choice((1.0, 1.8, 2.2, 2.4), p=(0.25, 0.1, 0.5, 0.15))) if vary else 2.2
    table = 255 * np.clip((np.arange(256) / 255) ** gamma * 2.0**ev, 0, 1) ** (1 / gamma)
    return image.point([round(v) for v in table] * 3)


def add_underexposure(image: Image.Image, ev: float, rng: np.random.Generator, *, vary: bool) -> Image.Image:
    """Take light away."""
    return expose(image, -ev, rng, vary=vary)


def add_overexposure(image: Image.Image, ev: float, rng: np.random.Generator, *, vary: bool) -> Image.Image:
    """Add light; highlights clip."""
    return expose(image, ev, rng, vary=vary)


def add_low_contrast(image: Image.Image, factor: float, rng: np.random.Generator, *, vary: bool) -> Image.Image:
    """Draw all tones towards one."""
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX))
    centre = rng.uniform(100, 170) if vary and rng.random() < 0.4 else float(grey.mean())
    return image.point([round(min(255.0, max(0.0, centre + (v - centre) * factor))) for v in range(256)] * 3)


def add_color_cast(image: Image.Image, share: float, rng: np.random.Generator, *, vary: bool) -> Image.Image:
    """Move red and blue apart, either way."""
    sign = rng.choice((-1, 1))
    gains = [1 + sign * share, 1.0, 1 - sign * share]
    if vary and rng.random() < 0.15:  # green or magenta light, as under fluorescent tubes
        gains = [1 - sign * share / 2, 1 + sign * share / 2, 1 - sign * share / 2]
    if vary and rng.random() < 0.2:  # an editor's slider adds instead
        return image.point([round(min(255.0, max(0.0, v + 118 * (gain - 1)))) for gain in gains for v in range(256)])
    if vary and rng.random() < 0.2:  # light that is balanced without changing its brightness
        gains = [gain / (0.299 * gains[0] + 0.587 * gains[1] + 0.114 * gains[2]) for gain in gains]
    return image.point([round(min(255.0, v * gain)) for gain in gains for v in range(256)])


def add_defocus(image: Image.Image, sigma: float, rng: np.random.Generator, *, vary: bool) -> Image.Image:
    """Spread every point evenly."""
    if vary and rng.random() < 0.25:  # a lens out of focus spreads light over a disc
        return convolve(image, disc(2 * sigma))
    if vary and rng.random() < 0.3:  # Pillow's is a row of boxes; this is the true curve
        from scipy.ndimage import gaussian_filter

        soft = gaussian_filter(np.asarray(image, dtype=np.float32), (sigma, sigma, 0), truncate=3, mode="nearest")
        return Image.fromarray(np.clip(soft + 0.5, 0, 255).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(sigma))


def add_motion(image: Image.Image, length: float, rng: np.random.Generator, *, vary: bool) -> Image.Image:
    """Smear every point along a straight path."""
    if vary and rng.random() < 0.35:  # along the rows or the columns, as a pan or a stumble does
        return convolve(image, streak(length, 0.5 * math.pi * float(rng.integers(2))))
    return convolve(image, streak(length, rng.uniform(0, math.pi)))


def add_noise(image: Image.Image, deviation: float, rng: np.random.Generator, *, vary: bool) -> Image.Image:
    """Add grain to every channel."""
    pixels = np.asarray(image, dtype=np.float32)
    grain = rng.standard_normal(pixels.shape, dtype=np.float32)
    if vary and rng.random() < 0.3:  # grain that is mostly grey
        grain = 0.9 * grain[..., :1] + 0.44 * grain
    if vary and rng.random() < 0.3:  # photon noise grows with light
        grain = grain * np.sqrt(0.4 + 1.2 * pixels / 255)
    return Image.fromarray(np.clip(pixels + deviation * grain + 0.5, 0, 255).astype(np.uint8))


def add_low_resolution(image: Image.Image, divisor: float, rng: np.random.Generator, *, vary: bool) -> Image.Image:
    """Keep fewer pixels and blow them up again."""
    small = (max(4, round(image.width / divisor)), max(4, round(image.height / divisor)))
    way = Image.Resampling
    ups = (way.BICUBIC, way.BILINEAR, way.NEAREST, way.LANCZOS)
    downs = (way.BOX, way.BICUBIC, way.BILINEAR, way.NEAREST)
    up = ups[int(rng.choice(4, p=(0.4, 0.3, 0.2, 0.1)))] if vary else way.BICUBIC
    down = downs[int(rng.choice(4, p=(0.4, 0.3, 0.15, 0.15)))] if vary else way.BOX
    return image.resize(small, down).resize(image.size, up)


def add_jpeg(image: Image.Image, quality: float, rng: np.random.Generator, *, vary: bool) -> Image.Image:
    """Compress as JPEG with this quality."""
    stream = io.BytesIO()
    subsampling = int(rng.choice((0, 1, 2), p=(0.25, 0.1, 0.65))) if vary else 2
    image.save(stream, "JPEG", quality=max(1, round(quality)), subsampling=subsampling)
    return Image.open(stream).convert("RGB")


def add_vignetting(image: Image.Image, ev: float, rng: np.random.Generator, *, vary: bool) -> Image.Image:
    """Take light from the corners, as a wide lens or its hood does."""
    power = rng.uniform(1.6, 4.0) if vary else 2.0
    shift = rng.uniform(-0.12, 0.12, 2) if vary else (0.0, 0.0)
    y = np.linspace(-1, 1, image.height, dtype=np.float32)[:, None] - np.float32(shift[0])
    x = np.linspace(-1, 1, image.width, dtype=np.float32)[None] - np.float32(shift[1])
    fall = 2.0 ** (-ev * ((x * x + y * y) / 2) ** (power / 2) / 2.2)  # 2.2: light before the sRGB curve
    pixels = np.asarray(image, dtype=np.float32) * fall[..., None]
    return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))


def add_lens_tilt(image: Image.Image, share: float, rng: np.random.Generator, *, vary: bool) -> Image.Image:
    """Point the camera up or down, so that verticals converge; nothing of what is left was outside the photo."""
    lost = 0.5 * share * image.width
    w, h = image.width, image.height
    upwards = rng.random() < (0.75 if vary else 0.5)
    # Corners of the source, clockwise from the upper left, that the corners of the picture show.
    corners = ((0, 0), (w, 0), (w - lost, h), (lost, h)) if upwards else ((lost, 0), (w - lost, 0), (w, h), (0, h))
    kind = Image.Resampling.BILINEAR if vary and rng.random() < 0.3 else Image.Resampling.BICUBIC
    return image.transform(image.size, Image.Transform.PERSPECTIVE, perspective(image.size, corners), kind)


def add_clipped_highlights(image: Image.Image, share: float, rng: np.random.Generator, *, vary: bool) -> Image.Image:
    """Let this share of the pixels turn white while the middle tones stay."""
    grey = np.asarray(image.convert("L").resize((96, 96), Image.Resampling.BOX))
    white = max(60.0, float(np.quantile(grey, 1 - share)))
    knee = white * (rng.uniform(0.4, 0.8) if vary else 0.6)
    table = [v if v <= knee else min(255.0, knee + (v - knee) * (255 - knee) / max(1.0, white - knee))
             for v in range(256)]  # fmt: skip
    return image.point([round(v) for v in table] * 3)


def add_over_saturation(image: Image.Image, factor: float, rng: np.random.Generator, *, vary: bool) -> Image.Image:
    """Drive the colors away from grey."""
    if vary and rng.random() < 0.3:  # an editor that works in hue, saturation and value
        hue, saturation, value = image.convert("HSV").split()
        strong = saturation.point([round(min(255.0, v * (0.4 + 0.6 * factor))) for v in range(256)])
        return Image.merge("HSV", (hue, strong, value)).convert("RGB")
    return ImageEnhance.Color(image).enhance(factor)


def perspective(size: tuple[int, int], corners: tuple[tuple[float, float], ...]) -> list[float]:
    """Return Pillow's eight coefficients by which the corners of a picture show these points of the source."""
    w, h = size
    rows, wanted = [], []
    for (x, y), (u, v) in zip(((0, 0), (w, 0), (w, h), (0, h)), corners, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        wanted += [u, v]
    return [float(c) for c in np.linalg.solve(np.array(rows, float), np.array(wanted, float))]


def disc(radius: float) -> npt.NDArray[np.float32]:
    """Return a disc with a soft rim that sums to 1."""
    half = math.ceil(radius)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def streak(length: float, angle: float) -> npt.NDArray[np.float32]:
    """Return the path of a point in a straight shake, summing to 1."""
    half = math.ceil(length / 2)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    kernel = np.clip(length / 2 + 0.5 - abs(along), 0, 1) * np.clip(1 - abs(across), 0, 1)
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def convolve(image: Image.Image, kernel: npt.NDArray[np.float32]) -> Image.Image:
    """Return the photograph under a point spread function, edges reflected."""
    from scipy.signal import fftconvolve

    half = kernel.shape[0] // 2
    pixels = np.pad(np.asarray(image, dtype=np.float32), ((half, half), (half, half), (0, 0)), mode="reflect")
    spread = fftconvolve(pixels, kernel[..., None], mode="valid", axes=(0, 1))
    return Image.fromarray(np.clip(spread + 0.5, 0, 255).astype(np.uint8))


DRAWN = {"tilt": 1.7, "motion": 1.5, "jpeg": 1.3, "low resolution": 1.3, "defocus": 1.2, "overexposure": 1.2,
         "vignetting": 1.2, "lens tilt": 1.8, "clipped highlights": 1.3, "over-saturation": 1.2}  # fmt: skip
"""How often faults are drawn for training, 1 for the others: the harder to see, the oftener."""


def draw_strengths(rng: np.random.Generator, n_faults: int) -> dict[str, float]:
    """Return `n_faults` faults that do not hide each other, with random strengths; the first is the main one."""
    often = np.array([DRAWN.get(fault, 0.9) for fault in FAULTS])
    chosen: dict[str, float] = {}
    for fault in rng.choice(FAULTS, len(FAULTS), replace=False, p=often / often.sum()):
        if len(chosen) < n_faults and not any({fault, other} in EXCLUSIVE for other in chosen):
            chosen[str(fault)] = float(rng.uniform(0.12, 1.0) * (0.75 if chosen else 1.0))
    return chosen
