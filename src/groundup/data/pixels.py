"""Image files as arrays of bytes, with a limit on what one file may unfold to."""

from __future__ import annotations

import functools
import io
import struct
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from groundup.core.errors import DataError

MAX_PIXELS = 50_000_000
"""More than any camera's picture that a model is trained on; a small file that claims more is taken for an attack."""

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "ICO", "TGA")
"""What is opened: formats of pixels alone. Pillow runs another program for some others, such as EPS."""

_UNREADABLE = (
    OSError, SyntaxError, ValueError, struct.error, EOFError,
    Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this build of Pillow reads."""
    Image.init()
    return tuple(form for form in FORMATS if form in Image.OPEN)


def open_image(data: bytes, where: str) -> Image.Image:
    """A picture decoded whole, turned as its EXIF entry says. Raises DataError that begins with ``where``."""
    try:
        image = Image.open(io.BytesIO(data), formats=_formats())
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"{where}: {image.width} x {image.height} pixels, more than the limit of {MAX_PIXELS:,}.")
        image.load()
        turned = ImageOps.exif_transpose(image)
    except _UNREADABLE as error:
        reason = "its bytes are no known image format" if "cannot identify" in str(error) else str(error)
        raise DataError(f"{where}: not an image that can be read: {reason}.") from error
    return image if turned is None else turned


def is_grey(image: Image.Image) -> bool:
    """Whether a picture has brightness alone."""
    return image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I")


def to_array(image: Image.Image, channels: int, size: tuple[int, int] | None = None) -> np.ndarray[Any, Any]:
    """The picture as uint8 [H, W, C], resized to (height, width) if asked: bilinear, antialiased, whatever its shape.

    What is transparent shows white. 16-bit grey keeps its upper 8 bits.
    """
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise DataError("the image holds floating-point grey values; save it with 8 bits a channel.")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        picture = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    try:
        image = image.convert("L" if channels == 1 else "RGB")
    except ValueError as error:
        raise DataError(f"the image's colours ({image.mode}) cannot be turned into grey or RGB: {error}.") from error
    if size is not None and size != (image.height, image.width):
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, channels)


def to_png(image: Image.Image | np.ndarray[Any, Any], where: str) -> bytes:
    """A picture, or uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], as the bytes of a PNG file."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
            raise DataError(
                f"{where}: read an array of {image.dtype} and shape {list(image.shape)}, "
                "expected uint8 values 0 to 255 of shape [height, width] or [height, width, 3]."
            )
        image = Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    if image.mode == "F":
        raise DataError(f"{where}: the image holds floating-point grey values; give it 8 bits a channel.")
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
