"""Real image files of every format that `read_header` knows, 21 × 13 pixels each, and ways to damage them."""

import struct
import zlib
from io import BytesIO

import cv2
import numpy as np
from PIL import Image

WIDTH, HEIGHT = 21, 13
_SMOOTH = cv2.resize(np.random.default_rng(0).integers(0, 256, (4, 5, 4), np.uint8), (WIDTH, HEIGHT))
BGRA = np.ascontiguousarray(_SMOOTH)
BGR = np.ascontiguousarray(_SMOOTH[:, :, :3])


def pillow(kind: str, mode: str = "RGB", **settings: object) -> bytes:
    """The image as Pillow writes it."""
    file = BytesIO()
    Image.fromarray(BGRA[:, :, [2, 1, 0, 3]], "RGBA").convert(mode).save(file, kind, **settings)
    return file.getvalue()


def opencv(suffix: str, pixels: np.ndarray = BGR, *settings: int) -> bytes:
    """`pixels` as OpenCV writes them."""
    return cv2.imencode(suffix, pixels, settings)[1].tobytes()


def _exif() -> bytes:
    """Tags that include a thumbnail, so that an end-of-image marker comes before the image's own."""
    exif = Image.Exif()
    exif[0x010E] = "thumbnail: \xff\xd9".encode("latin-1")
    return exif.tobytes()


def _bmp(header: bytes, offset: int, rows: bytes) -> bytes:
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + header + rows


_ROWS = np.pad(BGR.reshape(HEIGHT, -1), ((0, 0), (0, -3 * WIDTH % 4)))
_JPEG = opencv(".jpg")
_FRAMES = [Image.fromarray(np.roll(BGR, i, 1)) for i in range(3)]

FILES: dict[str, bytes] = {
    "png": opencv(".png"),
    "png gray": opencv(".png", BGR[:, :, 0]),
    "png alpha": opencv(".png", BGRA),
    "png 16 bits": opencv(".png", BGR.astype(np.uint16) * 257),
    "png 16 bits alpha": opencv(".png", BGRA.astype(np.uint16) * 257),
    "png palette": pillow("PNG", "P"),
    "png 1 bit": pillow("PNG", "1"),
    "png animated": pillow("PNG", save_all=True, append_images=_FRAMES),
    "jpeg": _JPEG,
    "jpeg gray": opencv(".jpg", BGR[:, :, 0]),
    "jpeg progressive": pillow("JPEG", progressive=True),
    "jpeg cmyk": pillow("JPEG", "CMYK"),
    "jpeg exif": pillow("JPEG", exif=_exif()),
    "jpeg restarts": opencv(".jpg", BGR, cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    "jpeg fill bytes": _JPEG[:2] + b"\xff\xff" + _JPEG[2:],
    "jpeg with an appendix": _JPEG + b"an appendix",
    "gif": opencv(".gif"),
    "gif 87a": pillow("GIF", "P"),
    "gif animated": pillow("GIF", save_all=True, append_images=_FRAMES, duration=9, loop=0),
    "webp lossy": pillow("WEBP"),
    "webp lossless": pillow("WEBP", lossless=True),
    "webp alpha": pillow("WEBP", "RGBA"),
    "webp exif": pillow("WEBP", exif=_exif()),
    "webp animated": pillow("WEBP", save_all=True, append_images=_FRAMES),
    "bmp": opencv(".bmp"),
    "bmp gray": opencv(".bmp", BGR[:, :, 0]),
    "bmp alpha": opencv(".bmp", BGRA),
    "bmp 1 bit": pillow("BMP", "1"),
    "bmp top row first": _bmp(struct.pack("<IiiHH24x", 40, WIDTH, -HEIGHT, 1, 24), 54, _ROWS.tobytes()),
    "bmp of OS/2": _bmp(struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, 24), 26, _ROWS[::-1].tobytes()),
}
"""each file by its name, whose first word is the format"""


def resized(name: str, width: int, height: int) -> bytes:
    """The file `name` with a header that claims another size, or as close to it as the format allows."""
    data = bytearray(FILES[name])
    kind = name.split()[0]
    if kind == "png":
        data[16:24] = struct.pack(">II", width & 0xFFFFFFFF, height & 0xFFFFFFFF)
    elif kind == "jpeg":
        frame = next(at for at in range(len(data)) if data[at] == 0xFF and data[at + 1] in (0xC0, 0xC2))
        data[frame + 5 : frame + 9] = struct.pack(">HH", height & 0xFFFF, width & 0xFFFF)
    elif kind == "gif":
        frame = data.index(b",\0\0\0\0") + 5
        data[6:10] = data[frame : frame + 4] = struct.pack("<HH", width & 0xFFFF, height & 0xFFFF)
    elif kind == "webp" and data[12:16] == b"VP8X":
        sides = (max(side, 1) - 1 & 0xFFFFFF for side in (width, height))
        data[24:30] = b"".join(side.to_bytes(3, "little") for side in sides)
    elif kind == "webp" and data[12:16] == b"VP8L":
        data[21:25] = struct.pack("<I", (max(width, 1) - 1 & 0x3FFF) | (max(height, 1) - 1 & 0x3FFF) << 14)
    elif kind == "webp":
        data[26:30] = struct.pack("<HH", width & 0x3FFF, height & 0x3FFF)
    elif name == "bmp of OS/2":
        data[18:22] = struct.pack("<HH", width & 0xFFFF, height & 0xFFFF)
    else:
        data[18:26] = struct.pack("<II", width & 0xFFFFFFFF, height & 0xFFFFFFFF)
    return bytes(data)


def mutated(seed: int) -> bytes:
    """One of the files with some bytes overwritten, mostly near its start, and sometimes cut off."""
    rng = np.random.default_rng(seed)
    data = bytearray(FILES[list(FILES)[seed % len(FILES)]])
    for _ in range(rng.integers(1, 5)):
        at = rng.integers(2, min(len(data), 64 if rng.random() < 0.8 else len(data)))
        data[at] = rng.choice([0, 1, 0x3B, 0xC0, 0xD8, 0xD9, 0xDA, 0xFF, rng.integers(0, 256)])
    return bytes(data[: rng.integers(0, len(data))]) if rng.random() < 0.2 else bytes(data)


def png_of(pixels: np.ndarray, bits: int, colour_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of samples [H, W, C] of 8 or 16 bits, written chunk by chunk (PNG specification, section 11.2.2)."""
    height, width = pixels.shape[:2]
    rows = pixels.astype(">u2" if bits == 16 else "u1").reshape(height, -1)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = ((b"IHDR", header), *chunks, (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )


def with_stray_bytes(name: str) -> list[bytes]:
    """The file `name` with bytes in places where no decoder needs them: after its end, and between its parts."""
    data = FILES[name]
    made = [data + more for more in (b"\0", b"\r\n", b"\xff\xd9", b"x" * 60, bytes(5000), bytes(range(256)))]
    if name.startswith("jpeg"):
        end, scan = data.rfind(b"\xff\xd9"), data.find(b"\xff\xda")
        frame = next(at for at in range(len(data)) if data[at] == 0xFF and data[at + 1] in (0xC0, 0xC2))
        made += [data[:at] + more + data[at:] for at in (frame, scan, end) for more in (b"\0", b"abc", bytes(50))]
    if name.startswith("gif"):
        first = data.index(b",\0\0\0\0")
        made += [data[:-1] + b"\0;", data[:first] + b"\r\n" + data[first:]]
    if name.startswith("bmp"):
        made += [data[:2] + claimed.to_bytes(4, "little") + data[6:] for claimed in (0, len(data) + 4, (1 << 32) - 1)]
    return made
