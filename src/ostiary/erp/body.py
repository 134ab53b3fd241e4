"""Bodies as adapters read them: whole, plain, and in one way only."""

import json
import re
from typing import Any, Final
from xml.parsers import expat
from xmlrpc.client import Error, Unmarshaller

from ostiary.erp.operation import Refused, Request
from ostiary.foundation import strict_json

JSON_TYPE: Final = re.compile(r'application/json(?:\s*;\s*charset\s*=\s*"?utf-8"?)?', re.IGNORECASE)
XML_TYPE: Final = re.compile(r'(?:text|application)/xml(?:\s*;\s*charset\s*=\s*"?utf-8"?)?', re.IGNORECASE)
DEPTH_MAX: Final = 64
ELEMENTS_MAX: Final = 100_000


def json_body(request: Request) -> Any:
    """The body as strict JSON: two parsers must not read it differently (duplicate keys, NaN, other encodings)."""
    _refuse_other(request, JSON_TYPE, "application/json")
    return strict(request.body)


def _refuse_other(request: Request, known: re.Pattern[str], type_: str) -> None:
    if not known.fullmatch(request.headers.get("content-type", "")):
        raise Refused.invalid(f"the body is sent as {type_}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused.invalid("the body is sent without a content encoding")


def strict(body: bytes) -> Any:
    """The JSON in `body`; raises Refused."""
    try:
        return strict_json.parse(body)
    except strict_json.NotStrict as problem:
        refused = Refused.too_large if problem.too_large else Refused.invalid
        raise refused(str(problem)) from None


def xml_rpc(request: Request) -> tuple[str | None, list[Any]]:
    """Method and parameters of an XML-RPC call, as Python's own reader has them: an ERP in Python has the same one.

    It is fed by a parser that takes no document type, so no entity, no instruction, and no other encoding.
    """
    _refuse_other(request, XML_TYPE, "text/xml")
    reader, parser = _Reader(), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler, parser.XmlDeclHandler = reader.data, _declared
    parser.StartDoctypeDeclHandler = parser.ProcessingInstructionHandler = _refuse
    reader.xml("", None)  # texts come decoded
    try:
        parser.Parse(request.body.decode(), True)
        params, method = reader.close(), reader.getmethodname()
    except (expat.ExpatError, Error, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        raise Refused.invalid("the body is no XML-RPC call in UTF-8") from None
    return method, strict(json.dumps(params, default=str).encode())  # times and bytes are plain values, like texts


def as_json(request: Request) -> bytes:
    """The body; of an XML-RPC call, its parameters as JSON."""
    xml = XML_TYPE.fullmatch(request.headers.get("content-type", ""))
    return json.dumps(xml_rpc(request)[1]).encode() if xml else request.body


class _Reader(Unmarshaller):
    _depth = _count = 0

    def start(self, tag: str, attrs: dict[str, str]) -> None:
        self._depth, self._count = self._depth + 1, self._count + 1
        if self._depth > DEPTH_MAX or self._count > ELEMENTS_MAX:
            raise Refused.too_large("the document is nested too deeply, or has too many elements")
        super().start(tag, attrs)

    def end(self, tag: str) -> None:
        self._depth -= 1
        super().end(tag)


def _declared(_version: str, encoding: str | None, _standalone: int) -> None:
    if (encoding or "utf-8").lower() != "utf-8":
        _refuse()


def _refuse(*_: Any) -> None:
    raise Refused.invalid("a call in XML is UTF-8, without a document type or an instruction")
