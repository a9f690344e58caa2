"""Image files as arrays of bytes, with a limit on what one file may unfold to."""

from __future__ import annotations

import contextlib
import functools
import io
import struct
from typing import Any

import numpy as np
import polars as pl
from PIL import Image, ImageOps

from groundup.core.errors import DataError

try:
    import simplejpeg  # type: ignore[import-untyped, unused-ignore]
except (ImportError, RuntimeError, OSError):
    simplejpeg = None

MAX_PIXELS = 50_000_000
"""More than any camera's picture that a model is trained on; a small file that claims more is taken for an attack."""

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "ICO", "TGA")
"""What is opened: formats of pixels alone. Pillow runs another program for some others, such as EPS."""

_ORIENTATION = 0x0112
"""EXIF's entry that says how the camera was held."""

_UNREADABLE = (
    OSError, SyntaxError, ValueError, struct.error, EOFError,
    Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this build of Pillow reads."""
    Image.init()
    return tuple(form for form in FORMATS if form in Image.OPEN)


def open_image(data: bytes, where: str, room: tuple[int, int] | None = None) -> Image.Image:
    """A picture decoded whole, turned as its EXIF entry says. Raises DataError that begins with ``where``.

    With ``room`` (height, width) a JPEG is decoded at the smallest of its scales 1, 1/2, 1/4, 1/8 at which both edges
    keep twice the longer of these: for a picture that is then resized to them, in a fraction of the time, and within
    a few levels of 255. simplejpeg decodes where it is installed, to the same bytes as Pillow.
    """
    try:
        image = open_header(data, where)
        if image.format == "JPEG":
            image = _open_jpeg(image, data, room)
        image.load()
        turned = ImageOps.exif_transpose(image)
    except _UNREADABLE as error:
        raise _unreadable(error, where) from error
    return image if turned is None else turned


def open_header(data: bytes, where: str) -> Image.Image:
    """A picture that is not yet decoded: its mode and size are known. Raises DataError that begins with ``where``."""
    try:
        image = Image.open(io.BytesIO(data), formats=_formats())
    except _UNREADABLE as error:
        raise _unreadable(error, where) from error
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"{where}: {image.width} x {image.height} pixels, more than the limit of {MAX_PIXELS:,}.")
    return image


def turned_size(image: Image.Image, where: str) -> tuple[int, int]:
    """Height and width as they will be when the picture is turned as its EXIF entry says."""
    try:
        sideways = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    except _UNREADABLE as error:
        raise _unreadable(error, where) from error
    return (image.width, image.height) if sideways else (image.height, image.width)


def _unreadable(error: Exception, where: str) -> DataError:
    reason = "its bytes are no known image format" if "cannot identify" in str(error) else str(error)
    return DataError(f"{where}: not an image that can be read: {reason}.")


def _open_jpeg(image: Image.Image, data: bytes, room: tuple[int, int] | None) -> Image.Image:
    """A JPEG decoded by simplejpeg where that can, else Pillow's own set to the scale."""
    edge = 2 * max(room) if room else max(image.size)  # the longer, since the picture may yet be turned
    scale = max(s for s in (1, 2, 4, 8) if s == 1 or s * edge <= min(image.size))
    if simplejpeg is not None and image.mode in ("L", "RGB"):
        colours = {"L": "Gray", "RGB": "RGB"}[image.mode]
        with contextlib.suppress(ValueError):  # Pillow says what is wrong with it
            width, height = (-(-length // scale) for length in image.size)
            pixels = simplejpeg.decode_jpeg(data, colorspace=colours, min_height=height, min_width=width, min_factor=1)
            decoded = Image.fromarray(pixels[..., 0] if image.mode == "L" else pixels)
            decoded.info["exif"] = image.getexif().tobytes()
            return decoded
    if scale > 1:
        image.draft(None, (image.width // scale, image.height // scale))
    return image


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


def from_numbers(cell: Any, where: str) -> np.ndarray[Any, Any]:
    """A cell of whole numbers, a list, series or array, as uint8 [H, W] or [H, W, C]. Raises DataError for others."""
    try:
        array = np.asarray(cell.to_list() if isinstance(cell, pl.Series) else cell)
    except ValueError:
        array = np.zeros(0)
    whole = array.dtype.kind in "iu" and array.ndim in (2, 3) and array.size
    if not whole or array.min() < 0 or array.max() > 255:
        raise DataError(
            f"{where}: holds no image of whole numbers 0 to 255, [height, width] or [height, width, channels]."
        )
    return array.astype(np.uint8)


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
