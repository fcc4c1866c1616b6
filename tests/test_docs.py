"""What the documents promise: links lead somewhere, commands exist, quoted messages are said, scripts run."""

import ast
import re
import shlex
import shutil
from argparse import _SubParsersAction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from machines import gpu
from PIL import Image
from published_sizes import MILLIONS, PUBLISHED

from instantid.__main__ import build_parser
from instantid.bundle import open_bundle
from instantid.memory_plan import LADDERS, choose_plan
from instantid.sentences import SENTENCES, SPANISH_LIBRARY_ERRORS
from training import prepare_faces, train_identity
from training.small_bundle import __main__ as small_bundle

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(path for folder in (ROOT, ROOT / "docs") for path in folder.glob("*.md"))
TRANSLATED = [("README.md", "README.es.md"), ("docs/troubleshooting.md", "docs/troubleshooting.es.md")]
GAP = "…"  # stands for the facts of a message
PARSERS = {
    "instantid": build_parser("en"),
    "training.prepare_faces": prepare_faces.build_parser(),
    "training.train_identity": train_identity.build_parser(),
    "training.small_bundle": small_bundle.build_parser(),
}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code_blocks(text: str, language: str = "") -> list[str]:
    return re.findall(rf"^```{language or '[a-z]*'}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def headings(text: str) -> list[str]:
    return re.findall(r"^#+ .*$", without_blocks(text), re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The headings as links name them."""
    return {re.sub(r"[^\w -]", "", heading.lstrip("# ").lower()).replace(" ", "-") for heading in headings(text)}


def messages(text: str) -> list[str]:
    return re.findall(r"^> (.+)$", text, re.MULTILINE)


named = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


@named
def test_every_link_and_picture_is_there(document):
    broken = []
    for target in re.findall(r"\]\(([^)]+)\)", without_blocks(document.read_text(encoding="utf-8"))):
        name, _, anchor = target.partition("#")
        path = document.parent / name if name else document
        if "://" not in target and not (path.exists() and (not anchor or anchor in anchors(path.read_text("utf-8")))):
            broken.append(target)
    assert broken == []


def commands_of(text: str) -> list[str]:
    """Every `python -m …` and `./run …` in blocks and in running text, as one line each."""
    lines = [line for block in code_blocks(text, "sh") for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", without_blocks(text))
    lines = [re.sub(r"^accelerate launch .*?-m ", "python -m ", line) for line in lines]
    return [line for line in lines if line.startswith(("python -m ", "./run"))]


@named
def test_every_command_is_understood(document):
    for line in commands_of(document.read_text(encoding="utf-8")):
        words = [word for word in shlex.split(line) if word != GAP]
        if words[0] == "./run":
            module, arguments = "instantid", words[1:]
        else:
            module, arguments = words[2], words[3:]
        assert find_spec(module), line
        # Without arguments it is a mention; the others are the script's own.
        if module in PARSERS and arguments and arguments[0] not in ("test", "test-oldest", "lint"):
            if arguments == ["generate"]:
                arguments += ["--face", "me.jpg", "--prompt", "a person"]
            PARSERS[module].parse_args(arguments)


@named
def test_every_option_that_is_mentioned_exists(document):
    commands = next(a for a in PARSERS["instantid"]._actions if isinstance(a, _SubParsersAction)).choices.values()
    commands = [*commands, *PARSERS.values()]
    known = {option for command in commands for action in command._actions for option in action.option_strings}
    for benchmark in (ROOT / "benchmarks").glob("*.py"):  # read, not imported: they need what tests do not
        known |= set(re.findall(r"add_argument\(\"(--[a-z-]+)\"", benchmark.read_text(encoding="utf-8")))
    mentioned = re.findall(r"`(--[a-z][a-z-]*)[^`]*`", document.read_text(encoding="utf-8"))
    assert set(mentioned) <= known


def test_every_file_that_the_architecture_names_is_there():
    files = re.findall(r"`([\w./]+(?:\.(?:py|md|npz|txt|toml|ipynb)|/))`", text_of("docs/architecture.md"))
    bundle_parts = {"base/", "ControlNetModel/", "antelopev2/"}
    assert [name for name in files if name not in bundle_parts and not (ROOT / name).exists()] == []


def test_the_architecture_names_every_module():
    modules = [path for package in ("ip_adapter", "instantid") for path in (ROOT / package).glob("*.py")]
    names = {path.relative_to(ROOT).as_posix() for path in modules if path.name != "__init__.py"}
    text = text_of("docs/architecture.md")
    assert {name for name in names if f"`{name}`" not in text} == set()


@pytest.mark.parametrize(("english", "spanish"), TRANSLATED)
def test_a_translation_has_the_same_sections_code_and_number_of_messages(english, spanish):
    english, spanish = text_of(english), text_of(spanish)

    def levels(text):
        return [heading.split()[0] for heading in headings(text)]

    assert levels(english) == levels(spanish)
    assert code_blocks(english) == code_blocks(spanish)
    assert len(messages(english)) == len(messages(spanish))


def library_templates() -> list[str]:
    """The sentences that the drop-in parts raise, read from their source."""
    sources = [*(ROOT / "ip_adapter").glob("*.py"), ROOT / "pipeline_stable_diffusion_xl_instantid.py"]
    calls = [
        node
        for source in sources
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("Error") and len(node.args) == 2
    ]
    return [call.args[1].value for call in calls]


@pytest.mark.parametrize(("name", "language"), [("docs/troubleshooting.md", 1), ("docs/troubleshooting.es.md", 0)])
def test_every_quoted_message_is_one_that_the_program_says(name, language):
    templates = [pair[language] for pair in SENTENCES.values()] + library_templates()
    if language == 0:
        templates += SPANISH_LIBRARY_ERRORS.values()
    said = [re.sub(r"\{[^}]*\}", GAP, template) for template in templates]
    unknown = [quote for quote in messages(text_of(name)) if not any(quote in sentence for sentence in said)]
    assert unknown == []


def table_of_plans() -> list[list[str]]:
    table = r"^\| (.+ \| [\d.]+ \| [\d.]+ \| \w+ \| [\w-]+ \| \w+) \|$"
    return [row.split(" | ") for row in re.findall(table, text_of("docs/memory_guide.md"), re.MULTILINE)]


@pytest.mark.parametrize("row", table_of_plans(), ids=lambda row: row[0])
def test_the_memory_guide_tells_the_plan_that_is_made(row):
    _, vram, ram, offload, storage, tile = row
    plan = choose_plan(gpu(float(vram), float(ram), ram_free=float(ram)), PUBLISHED)
    assert (plan.offload, plan.storage, str(plan.vae_tile or "off")) == (offload, storage, tile)


def test_the_memory_guide_has_a_row_for_every_rung():
    assert {(row[3], row[4]) for row in table_of_plans()} == {(rung.offload, rung.storage) for rung in LADDERS["cuda"]}


def test_the_memory_guide_has_the_sizes_that_the_plan_is_tested_with():
    counts = re.findall(r"^\| [^*|]+ \| (\d+) M \|", text_of("docs/memory_guide.md"), re.MULTILINE)
    assert sorted(map(int, counts)) == sorted(MILLIONS.values())


@pytest.fixture(scope="module")
def home(random_bundle, tmp_path_factory):
    """A folder with a photo, and random weights where the scripts look for the published ones."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(random_bundle, folder / "checkpoints")
    photo = Image.new("RGB", (640, 640), (30, 40, 90))
    photo.paste((220, 170, 140), (220, 195, 420, 445))
    photo.save(folder / "me.jpg")
    return folder


ON_A_SMALL_MACHINE = {
    '"wangqixun/YamerMIX_v8"': '"checkpoints/base"',
    'to("cuda")': 'to("cpu")',
    "float16": "float32",
    "native=1024": "native=128",
    "num_inference_steps=30": "num_inference_steps=2",
    "seed=7": "seed=7, steps=2",
}


@pytest.mark.filterwarnings("ignore")  # what the libraries think of a script is theirs
@pytest.mark.parametrize("script", code_blocks(text_of("README.md"), "python"), ids=["app", "pipeline"])
def test_a_script_of_the_readme_makes_a_picture(home, script, monkeypatch):
    for published, small in ON_A_SMALL_MACHINE.items():
        script = script.replace(published, small)
    monkeypatch.setenv("INSTANTID_HOME", str(home / "checkpoints"))
    monkeypatch.setattr("instantid.loading.SHIPPED_BUNDLE", home / "absent")
    monkeypatch.chdir(home)
    picture = home / "snow.png"
    picture.unlink(missing_ok=True)
    exec(compile(script, "README.md", "exec"), {})
    assert np.asarray(Image.open(picture)).std() > 0


@pytest.mark.filterwarnings("ignore")
def test_the_script_of_the_training_guide_ends_with_a_bundle(home, monkeypatch):
    (script,) = code_blocks(text_of("docs/training.md"), "python")
    monkeypatch.chdir(home)
    exec(compile(script, "training.md", "exec"), {})
    assert open_bundle(home / "run" / "bundle", home / "checkpoints" / "base").described("en").endswith("steps on base")
