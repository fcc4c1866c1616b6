"""Every sentence exists in both languages, says the same in both, and is said somewhere.

Keys are read from the source itself: a key that is misspelt, a place that no fact fills and a sentence that nobody says
are found without making each error happen.
"""

import ast
import re
from pathlib import Path
from string import Formatter

import pytest

from instantid import messages
from instantid.messages import LANGUAGES, explain, machine_error, say, state_error, system_language, user_error
from instantid.sentences import SENTENCES, SPANISH_LIBRARY_ERRORS
from ip_adapter.errors import InstantIDError, MachineError, StateError, UserError

ROOT = Path(__file__).parents[1]
APP = sorted(
    [
        *(ROOT / "instantid").glob("*.py"),
        *(ROOT / "instantid" / "evaluation").glob("*.py"),
        *(ROOT / "training").rglob("*.py"),
    ]
)
LIBRARY = [*sorted((ROOT / "ip_adapter").glob("*.py")), ROOT / "pipeline_stable_diffusion_xl_instantid.py"]
KEY_ARGUMENT = {"say": 0, "user_error": 0, "state_error": 0, "machine_error": 0, "_finding": 2}  # function -> position
RAISED = {"user_error", "state_error", "machine_error"}
LIBRARY_ERRORS = {"UserError", "StateError", "MachineError"}

# The same in both languages, and rightly so.
SAME_IN_BOTH = {"check.fits", "memory.low_advice"}


def places(sentence):
    """Names of the `{places}` in a sentence."""
    return {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}


def calls(files, names):
    """(file, call, function name) of every call in `files` of a function with one of these names."""
    found = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
                if name in names:
                    found.append((file, node, name))
    return found


def strings(node):
    """Plain strings and f-strings below `node`; an f-string as the list of its parts, None for each open one."""
    if isinstance(node, ast.JoinedStr):
        yield [part.value if isinstance(part, ast.Constant) else None for part in node.values]
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield node.value
        return
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)):
            yield from strings(child)


APP_STRINGS = [string for file in APP for string in strings(ast.parse(file.read_text(encoding="utf-8")))]
WORDS = {string for string in APP_STRINGS if isinstance(string, str)}


def possible_keys(string):
    """The keys that a string of the source may mean: itself, or what fills an f-string with words of the source."""
    if isinstance(string, str):
        return {string}
    pattern = re.compile("".join("([a-z0-9_]+)" if part is None else re.escape(part) for part in string))
    return {key for key in SENTENCES if (found := pattern.fullmatch(key)) and WORDS.issuperset(found.groups())}


def key_strings(call, name):
    return [string for string in strings(call.args[KEY_ARGUMENT[name]]) if not isinstance(string, str) or "." in string]


CALLS = [(file, call, name) for file, call, name in calls(APP, KEY_ARGUMENT) if file.name != "messages.py"]


def where(file, call):
    return f"{file.name}:{call.lineno}"


def test_every_key_that_is_said_has_a_sentence():
    assert len(CALLS) > 100
    unknown = {
        (where(file, call), str(string))
        for file, call, name in CALLS
        for string in key_strings(call, name)
        if not possible_keys(string) & SENTENCES.keys()
    }
    assert unknown == set()


def test_every_place_of_a_sentence_is_filled_where_it_is_said():
    unfilled = {
        (where(file, call), key, place)
        for file, call, name in CALLS
        if all(keyword.arg for keyword in call.keywords)  # no **facts
        for string in key_strings(call, name)
        if isinstance(string, str)
        for key in possible_keys(string)
        for place in places(SENTENCES[key][1]) - {keyword.arg for keyword in call.keywords}
    }
    assert unfilled == set()


def test_no_fact_of_an_error_has_a_name_that_the_error_uses_itself():
    taken = {"self", "code", "template", "key"}
    assert {
        (where(file, call), keyword.arg)
        for file, call, name in CALLS
        for keyword in call.keywords
        if name in RAISED and keyword.arg in taken
    } == set()


def test_every_sentence_is_said_somewhere():
    said = WORDS.union(*(possible_keys(string) for string in APP_STRINGS if isinstance(string, list)))
    assert SENTENCES.keys() - said == set()


@pytest.mark.parametrize("key", SENTENCES)
def test_both_languages_have_the_same_places(key):
    spanish, english = SENTENCES[key]
    assert places(spanish) == places(english)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_can_be_said(language):
    for key, (_, english) in SENTENCES.items():
        said = SENTENCES[key][list(LANGUAGES).index(language)].format(**dict.fromkeys(places(english), 1.5))
        assert said.strip(), key
        assert "{" not in said, key


def test_no_sentence_was_left_untranslated():
    """Sentences without a word of their own, only places, signs and units, have nothing to translate."""
    untranslated = {
        key
        for key, (spanish, english) in SENTENCES.items()
        if spanish == english and re.search(r"[^\W\d_]{3,}", re.sub(r"\{[^}]*\}", "", english))
    }
    assert untranslated == SAME_IN_BOTH


# The two drop-in parts


def library_errors():
    """(place in the source, code, English template, names of the facts) of every error of the drop-in parts."""
    found = []
    for file, call, _ in calls(LIBRARY, LIBRARY_ERRORS):
        code, template = (ast.literal_eval(argument) for argument in call.args)
        found.append((where(file, call), code, template, {keyword.arg for keyword in call.keywords}))
    return found


LIBRARY_RAISES = library_errors()


def test_the_drop_in_parts_raise_errors_of_the_family():
    assert len(LIBRARY_RAISES) > 15


@pytest.mark.parametrize(("place", "code", "english", "facts"), LIBRARY_RAISES, ids=[e[0] for e in LIBRARY_RAISES])
def test_a_library_error_has_spanish_with_the_same_places_and_facts_for_them(place, code, english, facts):
    assert places(SPANISH_LIBRARY_ERRORS[code]) == places(english) == facts


def test_an_error_raised_in_two_places_says_the_same():
    templates = {}
    for _, code, english, _ in LIBRARY_RAISES:
        templates.setdefault(code, set()).add(english)
    assert {code for code, said in templates.items() if len(said) > 1} == set()


def test_no_spanish_is_kept_for_an_error_that_is_gone():
    assert SPANISH_LIBRARY_ERRORS.keys() == {code for _, code, _, _ in LIBRARY_RAISES}


def test_a_code_belongs_to_the_library_or_to_the_app_but_not_to_both():
    assert SPANISH_LIBRARY_ERRORS.keys() & SENTENCES.keys() == set()


def test_the_spanish_of_the_library_is_not_its_english():
    english = {template for _, _, template, _ in LIBRARY_RAISES}
    assert english & set(SPANISH_LIBRARY_ERRORS.values()) == set()


# Saying and explaining


def test_a_sentence_is_said_in_the_language_asked_for():
    facts = {"field": "steps", "value": 0, "least": 1, "most": 100}
    assert say("request.out_of_range", "es", **facts) == "«steps» vale 0; tiene que ser un número entre 1 y 100."
    assert say("request.out_of_range", "en", **facts) == "“steps” is 0; it must be a number from 1 to 100."


@pytest.mark.parametrize(("key", "language"), [("request.no_such_key", "es"), ("request.no_prompt", "fr")])
def test_an_unknown_key_or_language_is_a_bug(key, language):
    with pytest.raises(KeyError):
        say(key, language)


def test_an_error_of_the_app_is_explained_in_both_languages():
    error = user_error("request.bad_seed", value=-1, most=9)
    assert explain(error, "es") == say("request.bad_seed", "es", value=-1, most=9)
    assert explain(error, "en") == str(error) == say("request.bad_seed", "en", value=-1, most=9)


def test_an_error_of_the_library_is_explained_in_both_languages():
    error = UserError("resampler.heads", "dim ({dim}): use {nearest} heads", dim=2048, heads=12, nearest=16)
    assert explain(error, "es") == "dim (2048) tiene que ser divisible por heads (12): usa 16 cabezas"
    assert explain(error, "en") == "dim (2048): use 16 heads"


def test_an_error_without_a_sentence_is_explained_in_its_own_english():
    assert explain(InstantIDError("someone.elses", "No {thing} today.", thing="bread"), "es") == "No bread today."


def test_braces_in_what_a_person_wrote_are_kept():
    assert "{style} {0}" in explain(user_error("ui.size_unreadable", size="{style} {0}"), "es")


@pytest.mark.parametrize(
    ("make", "kind", "builtin"),
    [
        (user_error, UserError, ValueError),
        (state_error, StateError, RuntimeError),
        (machine_error, MachineError, RuntimeError),
    ],
)
def test_each_kind_of_error_is_of_the_family_and_of_pythons(make, kind, builtin):
    error = make("faces.no_such_index", index=3, count=2, last=1)
    assert type(error) is kind
    assert isinstance(error, InstantIDError)
    assert isinstance(error, builtin)
    assert (error.code, error.facts) == ("faces.no_such_index", {"index": 3, "count": 2, "last": 1})


@pytest.mark.parametrize(
    ("environment", "locale", "language"),
    [
        ({"INSTANTID_LANGUAGE": "en", "LANG": "es_ES.UTF-8"}, "es_ES", "en"),
        ({"LANG": "en_GB.UTF-8"}, None, "en"),
        ({"LC_ALL": "es_MX.UTF-8", "LANG": "en_GB.UTF-8"}, "en_GB", "es"),
        ({"LANG": "C"}, "en_US", "en"),
        ({"LANG": "fr_FR.UTF-8"}, "fr_FR", "es"),
        ({}, None, "es"),
    ],
)
def test_the_language_of_the_machine(monkeypatch, environment, locale, language):
    for name in ("INSTANTID_LANGUAGE", "LC_ALL", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(messages.locale, "getlocale", lambda: (locale, "UTF-8"))
    assert system_language() == language
