"""The XMP packet that says a picture was made by a machine, and with what request."""

from __future__ import annotations

import html
import re
from typing import Literal
from xml.sax.saxutils import quoteattr

Origin = Literal["generated", "composite"]
"""Whether the whole picture comes out of a model, or a model changed a given picture."""

_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_TERMS: dict[Origin, str] = {"generated": "trainedAlgorithmicMedia", "composite": "compositeWithTrainedAlgorithmicMedia"}
_RECORD = re.compile(r'\ssfumato:record=("[^"]*"|\'[^\']*\')')
_TYPE = re.compile(r"digitalsourcetype/(\w{1,64})")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def encode(origin: Origin | None, software: str, record: str = "") -> bytes:
    """A packet with IPTC's DigitalSourceType, the program's name and our record; empty if there is nothing to say."""
    if origin is None and not record:
        return b""
    attributes = [f"xmp:CreatorTool={quoteattr(software)}"]
    if origin is not None:
        attributes.append(f'Iptc4xmpExt:DigitalSourceType="{_SOURCE}{_TERMS[origin]}"')
    if record:
        attributes.append(f"sfumato:record={quoteattr(_CONTROL.sub('', record))}")
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:sfumato="urn:sfumato:1"'
        f' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" {" ".join(attributes)}/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def source_type(packet: str) -> str:
    """The IPTC digital source type that a packet names, such as "trainedAlgorithmicMedia"; empty if none."""
    match = _TYPE.search(packet)
    return match[1] if match else ""


def record(packet: str) -> str:
    """Our own record in a packet; empty if there is none."""
    match = _RECORD.search(packet)
    return html.unescape(match[1][1:-1]) if match else ""
