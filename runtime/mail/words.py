"""The words of mails: files, one a language, that an operator can replace sentence by sentence."""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Formatter

from runtime.config.settings import ConfigError
from runtime.i18n import LANGUAGES

SHIPPED = Path(__file__).parent / "texts"
MAX_SUBJECT = 120
MAX_SENTENCE = 2000
# Not printable to Python, but at home in typeset text: no-break and ideographic space.
_SPACES = str.maketrans("\u00a0\u3000", "  ")


class Words:
    """The sentences of one language, by names such as `erased.title`."""

    def __init__(self, app_name: str, sentences: Mapping[str, str]):
        self._app_name = app_name
        self._sentences = sentences

    def say(self, name: str, /, **values: object) -> str:
        """The sentence, its placeholders filled; `{app}` is known already."""
        return self._sentences[name].format(app=self._app_name, **values)


def load(folder: Path | None, app_name: str) -> dict[str, Words]:
    """The words of every language: those that ship, each replaced by the one in `folder` if any.

    Raises ConfigError with one line that names the file and the sentence at fault.
    """
    own = _read_folder(folder) if folder else {}
    return {
        language: Words(app_name, _merge(language, shipped(language), own.get(language, {})))
        for language in LANGUAGES
    }


def shipped(language: str) -> dict[str, str]:
    """The sentences that ship, by their names."""
    tables = tomllib.loads((SHIPPED / f"{language}.toml").read_text("utf-8"))
    return dict(_flat(tables))  # type: ignore[arg-type]


def _read_folder(folder: Path) -> dict[str, dict[str, object]]:
    """What the folder's files have, by language; of other files only `.toml` ones are refused."""
    if not folder.is_dir():
        raise ConfigError(f"MAIL_WORDS must be a folder: {folder} is none")
    found = {}
    for path in sorted(folder.glob("*.toml")):
        if path.stem not in LANGUAGES:
            known = " and ".join(f"{language}.toml" for language in LANGUAGES)
            raise ConfigError(f"MAIL_WORDS {path.name}: there are only {known}")
        try:
            found[path.stem] = dict(_flat(tomllib.loads(path.read_text("utf-8-sig"))))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise ConfigError(f"MAIL_WORDS {path.name}: cannot be read: {reason}") from error
    return found


def _flat(tables: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for section, table in tables.items():
        if isinstance(table, dict):
            yield from ((f"{section}.{key}", value) for key, value in table.items())
        else:
            yield section, table


def _merge(language: str, shipped: dict[str, str], own: Mapping[str, object]) -> dict[str, str]:
    for name, sentence in own.items():
        try:
            _demand_fit(name, sentence, shipped)
        except ValueError as error:
            raise ConfigError(f"MAIL_WORDS {language}.toml: {name} {error}") from error
    return {**shipped, **own}  # type: ignore[dict-item]


def _demand_fit(name: str, sentence: object, shipped: Mapping[str, str]) -> None:
    """Raises ValueError with what is wrong with a sentence that replaces ours."""
    if name not in shipped:
        raise ValueError("is no sentence of the mails")
    if not isinstance(sentence, str) or not sentence.strip():
        raise ValueError("must be text")
    is_subject = name.endswith(".subject")
    longest = MAX_SUBJECT if is_subject else MAX_SENTENCE
    if len(sentence) > longest:
        raise ValueError(f"must have at most {longest} characters")
    visible = sentence if is_subject else sentence.translate(_SPACES)
    if not visible.isprintable():
        raise ValueError("must be one line of printable characters")
    if is_subject and "=?" in sentence:
        raise ValueError("must not have =? in it")
    _demand_placeholders(_placeholders(sentence), _placeholders(shipped[name]))


def _demand_placeholders(given: set[str], wanted: set[str]) -> None:
    if unknown := given - wanted - {"app"}:
        raise ValueError(f"has an unknown placeholder {{{min(unknown)}}}")
    if missing := wanted - given - {"app"}:
        raise ValueError(f"lacks the placeholder {{{min(missing)}}}")


def _placeholders(sentence: str) -> set[str]:
    """The names between braces. Raises ValueError for a lone brace and for `{name!r:>10}`."""
    try:
        parts = list(Formatter().parse(sentence))
    except ValueError as error:
        raise ValueError("has a lone brace; write {{ or }} for one in the text") from error
    if any(spec or conversion for _text, _name, spec, conversion in parts):
        raise ValueError("must have no more than a name between braces")
    return {name for _text, name, _spec, _conversion in parts if name is not None}
