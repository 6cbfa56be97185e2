"""How one generation parameter is declared, and what is derived from the declaration.

A request model declares each field once with `param(...)`. The command line, the HTTP schema, the web form, the infotext
and the reference page read those declarations through `fields()`; `parse()` turns untrusted values into a request and
says in words what is wrong with them.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError
from pydantic.fields import FieldInfo

from sfumato.errors import InvalidRequest, Unsupported

Kind = Literal["int", "float", "bool", "text", "choice", "texts", "image", "images"]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Parameter:
    """The declaration of one request field.

    Attributes:
        name: field name, also the JSON key and (with dashes) the command-line flag.
        kind: what a form shows for it; "texts" and "images" are lists.
        group: heading under which forms and help show it.
        unit: unit of the number, empty for plain numbers.
        minimum, maximum: inclusive bounds, None where there is none.
        step: what one click in a form changes.
        choices: the allowed words of a "choice".
        default: the value used when nothing is given.
        optional: whether null is allowed and means "as the model or sampler has it".
        infotext: key in A1111's parameters text, empty if it is not written there.
        a1111: name of the field or option in A1111, empty if it has none.
        available: False while the engine refuses any value but the default.
    """

    name: str
    title: str
    help: str
    kind: Kind
    group: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    default: Any = None
    optional: bool = False
    multiline: bool = False
    infotext: str = ""
    a1111: str = ""
    available: bool = True

    @property
    def flag(self) -> str:
        """The command-line flag of the parameter."""
        return "--" + self.name.replace("_", "-")

    @property
    def allowed(self) -> str:
        """What may be given, in words."""
        if self.choices:
            return "one of " + ", ".join(repr(choice) for choice in self.choices)
        if self.kind in ("int", "float"):
            noun = "a whole number" if self.kind == "int" else "a number"
            unit = f" {self.unit}" if self.unit else ""
            match self.minimum, self.maximum:
                case None, None:
                    return noun
                case low, None:
                    return f"{noun} of at least {low:g}{unit}"
                case None, high:
                    return f"{noun} of at most {high:g}{unit}"
                case low, high:
                    return f"{noun} from {_number(low)} to {_number(high)}{unit}"
        return {"bool": "true or false", "text": "text", "texts": "a list of texts"}.get(
            self.kind, "an encoded picture (base64) or sha256:<its hash>"
        )


def _number(value: float | None) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def param(
    default: Any,  # noqa: ANN401
    title: str,
    help: str,
    *,
    group: str,
    ge: float | None = None,
    le: float | None = None,
    step: float | None = None,
    unit: str = "",
    infotext: str = "",
    a1111: str = "",
    multiline: bool = False,
    available: bool = True,
    max_length: int | None = None,
) -> Any:  # noqa: ANN401
    """Declare a request field; the arguments are those of `Parameter`, `ge`/`le` its bounds."""
    extra = {
        "group": group,
        "step": step,
        "unit": unit,
        "infotext": infotext,
        "a1111": a1111,
        "multiline": multiline,
        "available": available,
    }
    return Field(
        default=default,
        title=title,
        description=help,
        ge=ge,
        le=le,
        max_length=max_length,
        json_schema_extra={key: value for key, value in extra.items() if value not in (None, "", False) or key == "available"},
    )


@cache
def fields(cls: type[BaseModel]) -> tuple[Parameter, ...]:
    """The parameters of a request model, in the order of their declaration."""
    return tuple(_parameter(name, info) for name, info in cls.model_fields.items())


@cache
def field(cls: type[BaseModel], name: str) -> Parameter:
    """One parameter of a request model by name; KeyError if there is none."""
    return {parameter.name: parameter for parameter in fields(cls)}[name]


def _parameter(name: str, info: FieldInfo) -> Parameter:
    kind, choices, optional = _kind(info.annotation)
    extra: dict[str, Any] = dict(info.json_schema_extra) if isinstance(info.json_schema_extra, dict) else {}
    bounds = {key: getattr(item, key) for item in info.metadata for key in ("ge", "le") if hasattr(item, key)}
    return Parameter(
        name=name,
        title=info.title or name,
        help=info.description or "",
        kind=kind,
        minimum=bounds.get("ge"),
        maximum=bounds.get("le"),
        choices=choices,
        default=info.default,
        optional=optional,
        **extra,
    )


def _kind(annotation: object) -> tuple[Kind, tuple[str, ...], bool]:
    """Form kind, choices and optionality of a field annotation."""
    optional = False
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        optional = len(members) < len(get_args(annotation))
        if bytes in members:
            return "image", (), optional
        annotation = members[0]
    if get_origin(annotation) is Literal:
        return "choice", get_args(annotation), optional
    if get_origin(annotation) is tuple:
        return ("texts" if get_args(annotation)[0] is str else "images"), (), optional
    simple: dict[Any, Kind] = {bool: "bool", int: "int", float: "float", str: "text"}
    return simple.get(annotation, "image"), (), optional


def parse(cls: type[M], values: Mapping[str, Any]) -> M:
    """Build a request from untrusted values.

    Raises:
        InvalidRequest: one line for each thing that is wrong: the parameter, what was given, what is allowed.
    """
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        lines = list(dict.fromkeys(_explain(cls, dict(item)) for item in error.errors(include_url=False)))
        raise InvalidRequest("\n".join(lines)) from None


def _explain(cls: type[BaseModel], item: dict[str, Any]) -> str:
    """One validation error in words."""
    name = str(item["loc"][0]) if item["loc"] else ""
    known = {parameter.name: parameter for parameter in fields(cls)}
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name[:100], list(known), n=3, cutoff=0.6)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        return f"There is no parameter {name[:100]!r}.{hint}"
    if name not in known:
        return str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{name}: " + str(item["msg"]).removeprefix("Value error, ")
    if item["type"] in ("too_long", "string_too_long"):
        return f"{name}: too long; at most {item['ctx']['max_length']} are allowed."
    return f"{name}: {_short(item['input'])} was given, but it must be {known[name].allowed}."


def _short(value: object) -> str:
    if isinstance(value, (str, bytes)) and len(value) > 60:
        return repr(value[:60]) + "…"
    if isinstance(value, (str, bytes, bool, int, float, type(None))):
        return repr(value) if not isinstance(value, int) or abs(value) < 10**60 else "a very large number"
    return f"a value of type {type(value).__name__}"


def require_available(request: BaseModel) -> None:
    """Refuse a request that sets a parameter the engine does not serve.

    Raises:
        Unsupported: naming the parameters.
    """
    names = [p.name for p in fields(type(request)) if not p.available and getattr(request, p.name) != p.default]
    if names:
        verb = "is" if len(names) == 1 else "are"
        raise Unsupported(
            f"{', '.join(names)} {verb} understood, but this version cannot do it.", advice="Leave it at its default value."
        )
