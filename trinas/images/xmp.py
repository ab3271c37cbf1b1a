"""Change an XMP packet to that of an upscaled image. Only the values that differ are changed; all other bytes stay."""

import re
from xml.parsers import expat

MAX_XMP_BYTES = 4 << 20
"""Larger packets are left out. The description of an image has kilobytes, and a huge packet takes long to parse."""

_BEGIN, _END = b"<packet>", b"</packet>"
_GONE_ELEMENTS = ("xmp:Thumbnails", "xmpNote:HasExtendedXMP")
_GONE_ATTRIBUTE = "xmpNote:HasExtendedXMP"
"""It announces a second packet, which is not read."""

# Patterns for text that is well-formed for the parser. None of them can match in more than one way.
_DECLARATION = re.compile(rb"(?:\xef\xbb\xbf)?\s*<\?xml\s[^>]*\?>")
_ATTRIBUTE = re.compile(rb"\s+(?P<name>[^\s=<>/]+)\s*=\s*(?:\"(?P<value>[^\"]*)\"|'(?P<other>[^']*)')")
_NUMBER = re.compile(rb"\s*(\d+)")


class XmpError(ValueError):
    """An XMP packet is damaged or too large."""


def rewrite_xmp(packet: bytes, width: int, height: int, *, set_upright: bool) -> bytes:
    """Return an XMP packet for an image of a new size, without the thumbnails.

    XMP repeats the sizes and the orientation of EXIF, as attributes or as elements. Names are expected to have their
    usual prefixes, such as tiff and exif.

    Args:
        packet: UTF-8, with or without the wrapper of the packet.
        width, height: of the new image, in pixels.
        set_upright: whether the image was turned upright. Then its orientation becomes 1.
    Raises:
        XmpError: the packet is not well-formed XML, declares entities, or is larger than `MAX_XMP_BYTES`.
    """
    if len(packet) > MAX_XMP_BYTES:
        raise XmpError(f"larger than {MAX_XMP_BYTES >> 20} MB")
    values = {
        "tiff:ImageWidth": width,
        "tiff:ImageLength": height,
        "exif:PixelXDimension": width,
        "exif:PixelYDimension": height,
    }
    if set_upright:
        values["tiff:Orientation"] = 1
    packet = packet.rstrip(b"\0")
    declaration = _DECLARATION.match(packet)
    start = declaration.end() if declaration else 0
    return packet[:start] + _Rewriter(packet[start:], values).rewrite()


class _Rewriter:
    """Finds with an XML parser which bytes of a packet must change, then changes them.

    The packet is parsed as the content of one element, because some files hold several elements side by side. A
    document type cannot be declared there, so entities cannot be declared either.
    """

    def __init__(self, packet: bytes, values: dict[str, int]) -> None:
        """Prepare to set the attributes and elements named in `values` to these numbers."""
        self._packet = packet
        self._values = values
        self._edits: list[tuple[int, int, bytes]] = []  # start and end of the bytes to replace, and the new bytes
        self._number_start: int | None = None  # where the text begins of an element that holds a number
        self._gone_start: int | None = None  # where the element begins that is left out
        self._gone_depth = 0
        self._parser = expat.ParserCreate("utf-8")
        self._parser.StartElementHandler = self._start_element
        self._parser.EndElementHandler = self._end_element

    def rewrite(self) -> bytes:
        """Return the changed packet. Raise XmpError if it is not well-formed."""
        try:
            self._parser.Parse(_BEGIN + self._packet + _END, True)
        except expat.ExpatError as error:
            raise XmpError(f"damaged ({error})") from None
        pieces, position = [], 0
        for start, end, new in self._edits:
            pieces += [self._packet[position:start], new]
            position = end
        return b"".join([*pieces, self._packet[position:]])

    def _position(self) -> int:
        return self._parser.CurrentByteIndex - len(_BEGIN)

    def _start_element(self, name: str, attributes: dict[str, str]) -> None:
        self._number_start = None
        if self._gone_start is not None:
            self._gone_depth += 1
        elif name in _GONE_ELEMENTS:
            self._gone_start = self._position()
        elif name in self._values or _GONE_ATTRIBUTE in attributes or not self._values.keys().isdisjoint(attributes):
            tag_end = self._edit_attributes(self._position() + len(b"<") + len(name.encode()))
            if name in self._values:
                self._number_start = tag_end

    def _edit_attributes(self, position: int) -> int:
        """Edit the attributes of a tag from `position`, which is right behind its name. Return where the tag ends."""
        while attribute := _ATTRIBUTE.match(self._packet, position):
            position = attribute.end()
            name = attribute["name"].decode()
            if name == _GONE_ATTRIBUTE:
                self._edits.append((attribute.start("name") - 1, position, b""))
            elif name in self._values:
                self._edit_number(name, max(attribute.start("value"), attribute.start("other")), position)
        return self._packet.index(b">", position) + 1

    def _edit_number(self, name: str, start: int, end: int) -> None:
        if number := _NUMBER.match(self._packet, start, end):
            self._edits.append((*number.span(1), b"%d" % self._values[name]))

    def _end_element(self, name: str) -> None:
        if self._gone_start is None:
            if self._number_start is not None:
                self._edit_number(name, self._number_start, self._position())
                self._number_start = None
        elif self._gone_depth:
            self._gone_depth -= 1
        else:
            end = self._position()
            closing = re.compile(rb"</%s\s*>" % name.encode()).match(self._packet, end)  # <name/> has none
            self._edits.append((self._gone_start, closing.end() if closing else end, b""))
            self._gone_start = None
