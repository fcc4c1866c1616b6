"""Each repair of a notebook's own code: what it changes, what it leaves alone, and that the code around it stays."""

import ast
import importlib

import pytest
from repaired_cells import doubts, only, repaired

from instantid.migration_imports import COMPONENTS, GONE, MOVED, VAE_SWITCHES

CHECK = "from instantid.compatibility import check_environment\nprint(check_environment().text())"

# Checks of fixed versions

CHECKS = [
    'assert torch.__version__ == "2.0.0"',
    'assert torch.__version__.startswith("2.0"), "wrong"  # old',
    'if diffusers.__version__ != "0.25.0":\n    raise RuntimeError("install 0.25.0")',
    'if torch.__version__.split("+")[0] not in ("2.0.0", "2.0.1"):\n    print("⚠️ versión")\n    sys.exit(1)',
    'if version.parse(torch.__version__) != version.parse("2.0.0"):\n    warnings.warn("old")',
    'if importlib.metadata.version("torch") < "2.0.0":\n    raise SystemExit',
    'wanted = {"torch": "2.0.0", "diffusers": "0.25.0"}\n'
    "for name, number in wanted.items():\n    assert importlib.metadata.version(name) == number",
    'for name, number in [("torch", "2.0.0"), ("peft", "0.9.0")]:\n'
    "    if version(name) != number:\n        print(name)",
    'wanted = {"torch": "==2.0.0"}\nbad = []\n'
    "for name in wanted:\n    if not get_distribution(name).version == wanted[name]:\n        bad.append(name)\n"
    "if bad:\n    print(bad)",
    'wanted = {"torch": "2.0.0"}\n\n\ndef same(a, b):\n    return a == b\n\n\nok = True\nfor name in wanted:\n'
    '    ok = ok and same(torch.__version__, wanted[name])\nprint("ok" if ok else "bad")',
    'WANTED = "2.0.0"\nif torch.__version__ != WANTED:\n    raise RuntimeError(WANTED)',
    'def check_versions():\n    assert torch.__version__ == "2.0.0"\n\n\ncheck_versions()',
]


def test_words_of_a_shell_command_are_not_taken_for_names():
    check = 'for name, version in {"torch": "2.0.0"}.items():\n    assert importlib.metadata.version(name) == version'
    assert repaired(check, "!python --version")[0] == CHECK


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_of_fixed_versions_becomes_the_projects_own(check):
    source = only(f"import torch\nx = 1\n{check}\nprint(x)")
    assert [line for line in source.splitlines() if line] == ["import torch", "x = 1", *CHECK.splitlines(), "print(x)"]


def test_several_checks_of_one_cell_become_one():
    assert only('assert torch.__version__ == "2.0.0"\nassert diffusers.__version__ == "0.25.0"') == CHECK


def test_a_check_behind_a_semicolon_stays_on_its_line():
    (line,) = only('import torch; assert torch.__version__ == "2.0.0"').splitlines()
    assert line.startswith("import torch; from instantid.compatibility import check_environment; print(")


def test_a_check_that_installed_pytorch_goes_with_the_installation():
    source = only('if torch.__version__ != "2.0.0":\n    !pip install torch==2.0.0\nx = 1')
    assert source == f"{CHECK}\nx = 1"


def test_a_version_imported_by_name_is_known_in_other_cells():
    _, source = repaired(
        "from diffusers import __version__ as diffusers_version",
        'assert diffusers_version == "0.24.0"',
    )
    assert source == CHECK


@pytest.mark.parametrize(
    "source",
    [
        "print(torch.__version__)\nassert torch.cuda.is_available()",
        'if version.parse(torch.__version__) >= version.parse("2.0.0"):\n    pipe.unet = torch.compile(pipe.unet)',
        'if torch.__version__ >= "2.0.0":\n    pipe.unet = torch.compile(pipe.unet)',
        'MODELS = {"base": "1.0.0"}\nfor name in MODELS:\n    assert name == "base"',
    ],
)
def test_code_that_looks_at_versions_for_another_reason_stays(source):
    assert doubts(source) == []


@pytest.mark.parametrize(
    "cells",
    [
        ('wanted = {"torch": "2.0.0"}\nassert torch.__version__ == wanted["torch"]', "print(wanted)"),
        ('ok = torch.__version__ == "2.0.0"\nif not ok:\n    raise RuntimeError', "if ok:\n    pipe.to('cuda')"),
        ('if torch.__version__ != "2.0.0":\n    pipe.to("cpu")\n    raise RuntimeError',),
        ('if torch.__version__ != "2.0.0":\n    os.kill(os.getpid(), 9)',),
        ('WANTED = {"torch": "2.0.0"}\nassert torch.__version__ in WANTED.values()', "!echo {WANTED}"),
        (
            'wanted = {"torch": "2.0.0"}\n'
            'for name in wanted:\n    run(["pip", "install", name])\n    assert name == "torch"',
        ),
    ],
)
def test_a_check_that_does_more_or_is_needed_elsewhere_is_named_and_stays(cells):
    assert [reason for _, reason in doubts(*cells)] == ["check_unclear"]


# Repeated functions


def names_defined(sources) -> list[str]:
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    return [node.name for node in nodes if isinstance(node, ast.FunctionDef)]


def test_of_repeated_functions_the_last_stays():
    sources = repaired(
        "def generate_image(a):\n    return 1",
        "def other():\n    return generate_image(0)",
        "x = 1\ndef generate_image(a):  # again\n    return 2\ny = 2",
        "def generate_image(a):\n    return 3",
        "generate_image(1)",
    )
    assert names_defined(sources) == ["other", "generate_image"]
    assert "return 3" in sources[3]
    assert sources[0].startswith("# generate_image: ")
    assert sources[2].startswith("x = 1\n# generate_image: ")
    assert sources[2].endswith("\ny = 2")


def test_functions_repeated_in_one_cell_become_one():
    source = only("def f():\n    return 1\n\n\ndef f():\n    return 2")
    assert names_defined([source]) == ["f"]
    assert source.endswith("return 2")


@pytest.mark.parametrize(
    "between",
    [
        "f()",
        "page = Interface(fn=f)",
        "def g():\n    return f()\nresult = g()",
        "def g(call=f):\n    return call()",
        "class A:\n    made = f()",
        "f = wrapped(f)",
        "del f",
        "!echo {f()}",
        "f() is no Python",
    ],
)
def test_a_function_that_is_used_before_it_is_defined_again_stays_and_is_named(between):
    assert ("def f(…)", "function_used") in doubts("def f():\n    return 1", between, "def f():\n    return 2")


@pytest.mark.parametrize(
    "source",
    [
        "@cache\ndef f():\n    return 1\n\n\n@cache\ndef f():\n    return 2",
        "class A:\n    def f(self):\n        return 1\n\n\nclass B:\n    def f(self):\n        return 2",
        "def f():\n    def g():\n        return 1\n    return g\n\n\ndef g():\n    return 2",
        "if A:\n    def f():\n        return 1\nelse:\n    def f():\n        return 2",
    ],
    ids=["decorated", "methods", "nested", "branches"],
)
def test_functions_that_only_share_a_name_stay(source):
    assert doubts(source) == []


# Heads

HEADS = [
    ("Resampler(dim=2048, heads=12)", "Resampler(dim=2048, heads=16)"),
    ("Resampler(heads=12, depth=4)", "Resampler(heads=16, depth=4)"),
    ("Resampler(1280, heads=12)", "Resampler(1280, heads=20)"),
    ("Resampler(dim=1280, dim_head=80, heads=12)", "Resampler(dim=1280, dim_head=64, heads=20)"),
    ("Resampler(dim=2048, dim_head=None, heads=7)", "Resampler(dim=2048, dim_head=128, heads=16)"),
    ("Resampler(\n    dim=2048,\n    heads=12,  # ñ\n)", "Resampler(\n    dim=2048,\n    heads=16,  # ñ\n)"),
    ("resampler.Resampler(dim=2048, heads = 12)", "resampler.Resampler(dim=2048, heads = 16)"),
    ("HEADS = 12\nr = Resampler(dim=2048, heads=HEADS)", "HEADS = 16\nr = Resampler(dim=2048, heads=HEADS)"),
    (
        "HEADS = 12\nprint(HEADS)\nr = Resampler(dim=2048, heads=HEADS)",
        "HEADS = 12\nprint(HEADS)\nr = Resampler(dim=2048, heads=16)",
    ),
    ("DIM = 1280\nr = Resampler(dim=DIM, heads=12)", "DIM = 1280\nr = Resampler(dim=DIM, heads=20)"),
    ('c = {"dim": 2048, "heads": 12}\nr = Resampler(**c)', 'c = {"dim": 2048, "heads": 16}\nr = Resampler(**c)'),
    ("c = dict(dim=2048, heads=12)\nr = Resampler(**c)", "c = dict(dim=2048, heads=16)\nr = Resampler(**c)"),
]


@pytest.mark.parametrize(("before", "after"), HEADS, ids=[before for before, _ in HEADS])
def test_heads_that_do_not_divide_the_width_become_ones_that_do(before, after):
    assert only(before) == after


@pytest.mark.parametrize(
    "source",
    [
        "Resampler(dim=2048, heads=16)",
        "Resampler(dim=1280, heads=16)",
        "Resampler()",
        "Transformer(dim=2048, heads=12)",
    ],
)
def test_heads_that_fit_and_those_of_others_stay(source):
    assert doubts(source) == []


@pytest.mark.parametrize(
    "source",
    [
        "Resampler(dim=1000, heads=12)",
        "Resampler(dim=config.dim, heads=12)",
        "Resampler(dim=2048, heads=config.heads)",
        "dim = 1280\ndim = 2048\nr = Resampler(dim=dim, heads=12)",
    ],
)
def test_heads_that_cannot_be_decided_are_named(source):
    assert [reason for _, reason in doubts(source)] == ["heads_unknown"]


# Imports and calls


@pytest.mark.parametrize(("module", "name"), sorted(set(MOVED.values())))
def test_every_new_place_of_an_import_exists(module, name):
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize(("module", "name"), MOVED)
def test_every_import_that_moved_is_found_and_keeps_its_name(module, name):
    source = only(f"from {module} import {name}")
    (statement,) = ast.parse(source).body
    assert (statement.names[0].asname or statement.names[0].name) == name
    assert (statement.module, statement.names[0].name) == MOVED[module, name]


IMPORTS = [
    (
        "from diffusers.utils import load_image, randn_tensor",
        "from diffusers.utils.torch_utils import randn_tensor\nfrom diffusers.utils import load_image",
    ),
    (
        "if x:\n    from diffusers.utils import (\n"
        "        randn_tensor as noise,  # noise\n        load_image,  # photos\n    )",
        "if x:\n    from diffusers.utils.torch_utils import randn_tensor as noise\n"
        "    from diffusers.utils import (\n        load_image,  # photos\n    )",
    ),
    (
        "import os; from transformers import CLIPFeatureExtractor  # eyes",
        "import os; from transformers import CLIPImageProcessor as CLIPFeatureExtractor  # eyes",
    ),
    ("pipe.enable_vae_slicing()", "pipe.vae.enable_slicing()"),
    ("self.pipe.enable_vae_tiling()  # T4", "self.pipe.vae.enable_tiling()  # T4"),
    (
        'hf_hub_download("a", "b", local_dir="x", local_dir_use_symlinks=False, resume_download=True)',
        'hf_hub_download("a", "b", local_dir="x")',
    ),
    ('snapshot_download(resume_download=True, repo_id="a")', 'snapshot_download(repo_id="a")'),
    ("demo.queue(concurrency_count=1).launch(enable_queue=True, share=True)", "demo.queue().launch(share=True)"),
    (
        'import gradio as gr\ngr.inputs.Image(type="pil", source="upload", optional=True)',
        'import gradio as gr\ngr.Image(type="pil", sources=["upload"])',
    ),
    ("import gradio\ngradio.inputs.Slider(0, 1, default=0.8)", "import gradio\ngradio.Slider(0, 1, value=0.8)"),
    ("import gradio as gr\ngr.outputs.Textbox()", "import gradio as gr\ngr.Textbox()"),
    ("import gradio as gr\ngr.Image.update(value=None)", "import gradio as gr\ngr.update(value=None)"),
    (
        'import pkg_resources\ntry:\n    pkg_resources.get_distribution("torch").version\n'
        "except pkg_resources.DistributionNotFound:\n    pass",
        'import importlib.metadata\ntry:\n    importlib.metadata.version("torch")\n'
        "except importlib.metadata.PackageNotFoundError:\n    pass",
    ),
]


@pytest.mark.parametrize(("before", "after"), IMPORTS, ids=[before for before, _ in IMPORTS])
def test_what_the_libraries_moved_is_written_as_it_is_now(before, after):
    assert only(before) == after


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        *((f"from {module} import {name}", "import_gone") for module, name in sorted(GONE)),
        ("import gradio as gr\ngr.outputs.Carousel()", "import_gone"),
        ("import pkg_resources\npkg_resources.require('torch')", "pkg_resources"),
        ("from pkg_resources import get_distribution", "pkg_resources"),
    ],
)
def test_what_is_gone_is_named(source, reason):
    assert [found for _, found in doubts(source)] == [reason]


@pytest.mark.parametrize(
    "source",
    [
        "from .controlnet import ControlNetModel",
        "from diffusers.models import ControlNetModel",
        "image.update(1)\ninputs.Image(default=1)",
        "launch(share=True)",
    ],
)
def test_imports_and_calls_that_still_work_stay(source):
    assert doubts(source) == []


def test_the_new_calls_exist():
    import gradio
    from diffusers import AutoencoderKL

    assert all(hasattr(gradio, name) for name in ["update", *COMPONENTS.pattern.split("|")])
    assert all(hasattr(AutoencoderKL, new.removeprefix("vae.")) for new in VAE_SWITCHES.values())


# Cells


def test_a_cell_that_is_no_python_is_named_and_stays():
    assert doubts("pip install torch==2.0.0\nfor x in") == [("pip install torch==2.0.0", "unparsed")]


def test_positions_are_right_behind_accents_and_emoji():
    assert only("'ñandú 🙂'; pipe.enable_vae_tiling()  # 🙂 é") == "'ñandú 🙂'; pipe.vae.enable_tiling()  # 🙂 é"


def test_lines_that_end_as_on_windows_stay_so():
    source = only("import torch\r\nassert torch.__version__ == '2.0.0'\r\npipe.enable_vae_tiling()\r\n")
    assert source.startswith("import torch\r\n")
    assert source.endswith("pipe.vae.enable_tiling()\r\n")


def test_code_that_awaits_at_the_top_is_read():
    assert only("await pipe.enable_vae_tiling()") == "await pipe.vae.enable_tiling()"
