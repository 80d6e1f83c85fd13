"""Pictures inside a page: bytes as data URIs, so that a report is one file."""

import base64

SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
}


def media_type(data: bytes) -> str | None:
    """The media type that the first bytes of `data` claim, or None where they claim no image."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for signature, kind in SIGNATURES.items() if data.startswith(signature)), None)


def data_uri(data: bytes) -> str | None:
    """`data` as a data URI, or None where it is no image."""
    kind = media_type(data)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}" if kind else None
