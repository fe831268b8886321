"""What a docstring says of a function and of its parameters, in any of the three usual styles."""

import re
import textwrap

# ":param str name: text", its further lines indented (Sphinx).
_SPHINX = re.compile(r"^:param\s+(?:[^:\n]*\s)?(\w+):[ \t]*(.*(?:\n[ \t]+\S.*)*)\n?", re.M)
# "Args:" and what is indented below it (Google).
_GOOGLE = re.compile(r"^(?:Args|Arguments|Parameters):[ \t]*\n((?:[ \t]+\S.*(?:\n|\Z)|\n)+)", re.M)
_GOOGLE_ITEM = re.compile(r"^\*{0,2}(\w+)(?:[ \t]*\([^)\n]*\))?:[ \t]*(.*(?:\n[ \t]+\S.*)*)", re.M)
# "Parameters" underlined, then "name : type" and what is indented below it (NumPy).
_NUMPY = re.compile(
    r"^(?:Other )?Parameters[ \t]*\n-{3,}[ \t]*\n((?:(?!.*\n-{3,}[ \t]*(?:\n|\Z)).*(?:\n|\Z))*?)"
    r"(?=\Z|^.*\n-{3,}[ \t]*$)",
    re.M,
)
_NUMPY_ITEM = re.compile(r"^(\w+)(?:[ \t]*:[^\n]*)?\n((?:[ \t]+\S.*(?:\n|\Z))+)", re.M)


def read(docstring: str) -> tuple[str, dict[str, str]]:
    """The text without its part on parameters, and each parameter's text by its name."""
    found: dict[str, str] = {}
    rest = _taken(docstring, _NUMPY, _NUMPY_ITEM, found)
    rest = _taken(rest, _GOOGLE, _GOOGLE_ITEM, found)
    found.update((name, text) for name, text in _SPHINX.findall(rest))
    rest = _SPHINX.sub("", rest)
    texts = {name: " ".join(text.split()) for name, text in found.items()}
    return re.sub(r"\n{3,}", "\n\n", rest).strip(), {name: t for name, t in texts.items() if t}


def _taken(text: str, section: re.Pattern, item: re.Pattern, found: dict[str, str]) -> str:
    for match in section.finditer(text):
        found.update(item.findall(textwrap.dedent(match[1])))
    return section.sub("\n", text)
