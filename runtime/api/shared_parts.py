"""What stands in several places of the OpenAPI document, each once: parameters, and long fields."""

import json
from collections import Counter
from collections.abc import Iterator

from runtime.api.document_texts import Texts

# A field that takes as many characters, without words, is a shape of its own if several have it.
LONG = 150


def share(document: dict, texts: Texts) -> dict:
    """The document with its parameters in words, and a component for what stands more than once."""
    _share_parameters(document, texts)
    _share_fields(document)
    return document


def _share_fields(document: dict) -> None:
    """Make long fields shapes, named as they are: `RedirectTo`."""
    schemas = document["components"]["schemas"]
    fields = [
        (shape["properties"], name)
        for shape in schemas.values()
        for name, field in shape.get("properties", {}).items()
        if len(json.dumps({**field, "description": ""})) > LONG
    ]
    counts = Counter((name, json.dumps(properties[name])) for properties, name in fields)
    for properties, name in fields:
        if counts[name, json.dumps(properties[name])] > 1:
            shape = name.title().replace("_", "")
            schemas.setdefault(shape, properties[name])
            properties[name] = {"$ref": f"#/components/schemas/{shape}"}


def _share_parameters(document: dict, texts: Texts) -> None:
    found = [each for lists in _lists(document) for each in lists]
    for parameter in found:
        _tell(parameter, texts)
    counts = Counter(map(json.dumps, found))
    names: dict[str, str] = {}
    components = document["components"].setdefault("parameters", {})
    for each in _lists(document):
        for place, parameter in enumerate(each):
            key = json.dumps(parameter)
            if counts[key] < 2:
                continue
            if key not in names:
                names[key] = _name_of(parameter, components)
                components[names[key]] = parameter
            each[place] = {"$ref": f"#/components/parameters/{names[key]}"}


def _lists(document: dict) -> Iterator[list[dict]]:
    """Each list of parameters, those of whole paths too."""
    for item in document["paths"].values():
        for each in (item, *(item[method] for method in item if method != "parameters")):
            if "parameters" in each:
                yield each["parameters"]


def _tell(parameter: dict, texts: Texts) -> None:
    """Say what it is. No null: it is there or not."""
    parameter["description"] = texts.field((), parameter["name"], parameter.get("description"))
    schema = parameter["schema"]
    if isinstance(schema["type"], list):
        schema["type"] = schema["type"][0]
    if schema.get("default", 0) is None:
        del schema["default"]


def _name_of(parameter: dict, taken: dict) -> str:
    """As it is called itself, with a number behind it if another one is too."""
    name = parameter["name"].replace("-", "_")
    same = sum(other == name or other.startswith(f"{name}_") for other in taken)
    return f"{name}_{same + 1}" if same else name
