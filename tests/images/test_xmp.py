import pytest

from trinas.images.xmp import MAX_XMP_BYTES, XmpError, rewrite_xmp

WRAPPED = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x='adobe:ns:meta/'><!-- tiff:Orientation="6" -->
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" dc:title="A &gt; Ö"{attributes}>{elements}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""


def packet(attributes="", elements=""):
    return WRAPPED.format(attributes=attributes, elements=elements).encode()


def rewrite(content):
    return rewrite_xmp(content, 96, 144, set_upright=True)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"attributes": " tiff:Orientation='6'"}, {"attributes": " tiff:Orientation='1'"}),
        ({"attributes": '\n\ttiff:ImageWidth = "36"'}, {"attributes": '\n\ttiff:ImageWidth = "96"'}),
        ({"attributes": ' a=">" exif:PixelYDimension="24"'}, {"attributes": ' a=">" exif:PixelYDimension="144"'}),
        ({"attributes": ' a="1" xmpNote:HasExtendedXMP="AB" b="2"'}, {"attributes": ' a="1" b="2"'}),
        (
            {"elements": "<tiff:ImageLength> 24 </tiff:ImageLength>"},
            {"elements": "<tiff:ImageLength> 144 </tiff:ImageLength>"},
        ),
        (
            {"elements": '<tiff:Orientation x=">">6</tiff:Orientation >'},
            {"elements": '<tiff:Orientation x=">">1</tiff:Orientation >'},
        ),
        ({"elements": "a<xmp:Thumbnails><xmp:Thumbnails/><b/></xmp:Thumbnails >c"}, {"elements": "ac"}),
        ({"elements": "a<xmp:Thumbnails x='>'/><b/>"}, {"elements": "a<b/>"}),
        ({"elements": "<xmpNote:HasExtendedXMP>AB</xmpNote:HasExtendedXMP>"}, {"elements": ""}),
        (
            {"elements": '<xmp:Thumbnails tiff:Orientation="6"><b tiff:Orientation="6"/></xmp:Thumbnails>'},
            {"elements": ""},
        ),
    ],
)
def test_what_says_size_or_turn_is_rewritten_and_the_rest_stays(before, after):
    assert rewrite(packet(**before)) == packet(**after)


@pytest.mark.parametrize(
    "content",
    [
        packet(),
        packet(elements="<tiff:Orientation/>5<tiff:ImageWidth><b/>7</tiff:ImageWidth>"),
        packet(elements="<![CDATA[<xmp:Thumbnails>]]> tiff:Orientation='6'"),
        packet(attributes=' tiff:Orientation="six" other:Orientation="6"'),
        packet(elements="<xmp:ThumbnailsNot>x</xmp:ThumbnailsNot>"),
        b'<?xml version="1.0" encoding="UTF-8"?>' + packet(),
        b"<a/><b/>",
        b"",
    ],
)
def test_what_says_neither_stays_byte_for_byte(content):
    assert rewrite(content) == content


def test_a_turn_that_was_not_made_is_still_said():
    turned = packet(' tiff:Orientation="6"')
    assert rewrite_xmp(turned, 96, 144, set_upright=False) == turned


def test_zeros_behind_a_packet_are_left_out():
    assert rewrite(packet() + b"\0\0") == packet()


@pytest.mark.parametrize(
    "content",
    [
        packet(elements="<open>"),
        packet()[:-40],
        packet(attributes=' twice="1" twice="2"'),
        "Grüße".encode("latin-1"),
        packet().decode().encode("utf-16"),
        b"</packet><packet>",
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>',
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>',
        b"<x>&undeclared;</x>",
    ],
)
def test_a_damaged_packet_and_entities_are_refused(content):
    with pytest.raises(XmpError, match="damaged"):
        rewrite(content)


@pytest.mark.parametrize(
    "piece",
    [b"<xmp:Thumbnails>", b"<tiff:Orientation >", b'<b tiff:Orientation="6" ', b"<a>"],
)
def test_a_packet_that_opens_all_the_time_is_refused_at_once(piece):
    """A pattern that looks for an end takes minutes for each of these: the square of their length."""
    content = piece * (MAX_XMP_BYTES // len(piece))
    with pytest.raises(XmpError, match="damaged"):
        rewrite(content)


def test_a_packet_of_many_numbers_is_rewritten_at_once():
    piece = b"<b tiff:Orientation='6' >   </b><tiff:ImageWidth>36</tiff:ImageWidth><xmp:Thumbnails></xmp:Thumbnails>\n"
    count = MAX_XMP_BYTES // len(piece)
    changed = b"<b tiff:Orientation='1' >   </b><tiff:ImageWidth>96</tiff:ImageWidth>\n"
    assert rewrite(piece * count) == changed * count


def test_a_packet_that_is_too_large_is_not_even_parsed():
    with pytest.raises(XmpError, match="larger than 4 MB"):
        rewrite(b"<" * (MAX_XMP_BYTES + 1))
