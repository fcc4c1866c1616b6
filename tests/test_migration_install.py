"""Install commands of old notebooks: no PyTorch, ranges for fixed versions, and nothing else changed."""

import pytest
from repaired_cells import doubts, only, repaired

from instantid.migration_install import project_range


def ranged(name: str, package: str | None = None) -> str:
    """A package with its range in requirements.txt."""
    return f"{name}{project_range(package or name)}"


WITHOUT_PYTORCH = [
    ("!pip install torch==2.0.0 peft", "!pip install peft"),
    ("!pip install peft torch==2.0.0", "!pip install peft"),
    ("!pip install -q torch==2.0.0 torchvision==0.15.1 peft", "!pip install -q peft"),
    ("!pip3 install 'torch<2.1' peft  # old", "!pip3 install peft  # old"),
    ("%pip install torchaudio===2.0 peft", "%pip install peft"),
    ("!python -m pip install --upgrade torch peft", "!python -m pip install --upgrade peft"),
    ("!{sys.executable} -m pip install torch~=2.0 peft", "!{sys.executable} -m pip install peft"),
    ("!uv pip install xformers peft", "!uv pip install peft"),
    ("!pip install torch==2.0.0 peft --index-url https://download.pytorch.org/whl/cu118", "!pip install peft"),
    ("!pip install torch==2.0.0 --extra-index-url=https://download.pytorch.org/whl peft", "!pip install peft"),
    (
        "!pip install torch==2.0.0 -i https://mirror.example/simple peft",
        "!pip install -i https://mirror.example/simple peft",
    ),
    ("!pip install https://download.pytorch.org/whl/cu118/torch-2.0.0-cp310-none-linux.whl peft", "!pip install peft"),
    ("!pip install torch=={TORCH} peft", "!pip install peft"),
    ("!pip install \\\n    torch==2.0.0 \\\n    peft \\\n    -q", "!pip install \\\n    peft \\\n    -q"),
    ("!pip install numpy==1.26.0 peft", "!pip install peft"),
    ("!pip uninstall -y torch numpy torchvision gradio", "!pip uninstall -y gradio"),
    ("x = !pip install torch==2.0.0", "x = !pip --version"),
    ("!apt update && pip install torch==2.0.0", "!apt update && pip --version"),
    ("!pip install torch==2.0.0 > /dev/null 2>&1", "!pip --version&1"),
    ("%%bash\npip install torch==2.0.0 peft\necho done", "%%bash\npip install peft\necho done"),
    ("%%capture\n!pip install torch==2.0.0 peft", "%%capture\n!pip install peft"),
    ('os.system("pip install torch==2.0.0 peft")', 'os.system("pip install peft")'),
    ('get_ipython().system("pip install -q torch==2.0 peft")', 'get_ipython().system("pip install -q peft")'),
    ('install("pip install torch==2.0.0 peft")', 'install("pip install peft")'),
    ('steps = ["pip install torch==2.0.0", "pip install peft"]', 'steps = ["pip --version", "pip install peft"]'),
    ('ok = os.system("pip install torch==2.0.0")', 'ok = os.system("pip --version")'),
    ('import os; os.system("pip install torch==2.0.0")', 'import os; os.system("pip --version")'),
    (
        'subprocess.run([sys.executable, "-m", "pip", "install", "torch==2.0.0", "peft"], check=True)',
        'subprocess.run([sys.executable, "-m", "pip", "install", "peft"], check=True)',
    ),
    (
        "subprocess.check_call(['pip', 'install',\n    'torch==2.0.0',  # for CUDA 11\n    'peft',  # LoRA\n])",
        "subprocess.check_call(['pip', 'install',\n    'peft',  # LoRA\n])",
    ),
    (
        "subprocess.check_call(['pip', 'install',\n    'peft',  # LoRA\n    'torch==2.0.0',\n])",
        "subprocess.check_call(['pip', 'install',\n    'peft',  # LoRA\n    \n])",
    ),
    ('command = ["pip", "install", "torch==2.0.0"]', 'command = ["pip", "--version", ]'),
    ('os.popen("pip install torch==2.0.0 peft".split())', 'os.popen("pip install peft".split())'),
    (
        'for package in ["torch==2.0.0", "peft"]:\n    !pip install {package}',
        'for package in ["peft"]:\n    !pip install {package}',
    ),
]


@pytest.mark.parametrize(("before", "after"), WITHOUT_PYTORCH, ids=[before for before, _ in WITHOUT_PYTORCH])
def test_no_command_changes_pytorch_or_numpy(before, after):
    assert only(before) == after


@pytest.mark.parametrize(
    "command",
    [
        "!pip install torch==2.0.0 torchvision==0.15.0 --index-url https://download.pytorch.org/whl/cu118",
        "!pip install -q --no-cache-dir numpy==1.24",
        "%pip install -U xformers",
        "!pip uninstall -y torch",
        'os.system("pip install torch==2.0.0")',
        'subprocess.run(["pip", "install", "-q", "torch==2.0.0"])',
    ],
)
def test_a_command_that_has_nothing_left_to_do_becomes_a_comment_in_both_languages(command):
    before, note, after = only(f"import os\n{command}\nx = 1").splitlines()
    assert (before, after) == ("import os", "x = 1")
    assert note.startswith("# ")
    assert " · " in note


@pytest.mark.parametrize("command", ["!pip install torch==2.0.0", 'os.system("pip install torch==2.0.0")'])
def test_a_block_whose_only_command_goes_stays_a_block(command):
    assert only(f"if COLAB:\n    {command}\nx = 1").startswith("if COLAB:\n    pass  # ")


def test_a_line_of_a_shell_script_that_goes_leaves_one_that_does_nothing():
    lines = only("%%bash\nif true; then\n  pip install torch==2.0.0\nfi").splitlines()
    assert lines[2].startswith("  true  # ")
    assert lines[3] == "fi"


def test_without_xformers_nothing_turns_it_on():
    _, source = repaired(
        "!pip install xformers==0.0.20",
        "try:\n    pipe.enable_xformers_memory_efficient_attention()\nexcept Exception:\n    raise",
    )
    assert "enable_xformers" not in source


def test_where_xformers_is_not_installed_by_the_notebook_its_switch_stays():
    assert doubts("pipe.enable_xformers_memory_efficient_attention()") == []


RANGES = [
    ("!pip install diffusers==0.24.0", f'!pip install "{ranged("diffusers")}"'),
    ("!pip install huggingface_hub==0.19.4", f'!pip install "{ranged("huggingface_hub", "huggingface-hub")}"'),
    ('!pip install "transformers[torch]==4.36.2"', f'!pip install "{ranged("transformers[torch]", "transformers")}"'),
    ("!pip install gradio<4 peft", f'!pip install "{ranged("gradio")}" peft'),
    ("!pip install accelerate>=0.30.0", '!pip install "accelerate>=0.30.0"'),
    ("!pip install timm>=0.9", '!pip install "timm>=0.9"'),
    (
        "!pip install opencv-contrib-python==4.8.0.74",
        f'!pip install "{ranged("opencv-contrib-python", "opencv-python")}"',
    ),
    ("!pip install onnxruntime==1.16", f'!pip install "{ranged("onnxruntime", "onnxruntime-gpu")}"'),
    ('os.system("pip install diffusers==0.24.0")', f"os.system(\"pip install '{ranged('diffusers')}'\")"),
    ("os.system('pip install diffusers==0.24.0')", f"os.system('pip install \"{ranged('diffusers')}\"')"),
    ('run("pip install diffusers==0.24.0".split())', f'run("pip install {ranged("diffusers")}".split())'),
    ("run(['pip', 'install', 'diffusers==0.24.0'])", f"run(['pip', 'install', '{ranged('diffusers')}'])"),
    (
        "!pip install \"diffusers==0.24.0; python_version > '3'\"",
        f'!pip install "{ranged("diffusers")}"',
    ),
]


@pytest.mark.parametrize(("before", "after"), RANGES, ids=[before for before, _ in RANGES])
def test_a_fixed_version_becomes_the_range_of_the_requirements_safe_from_the_shell(before, after):
    assert only(before) == after


def test_of_two_onnxruntimes_one_stays_even_when_two_cells_install_them():
    first, second = repaired("!pip install onnxruntime peft", "!pip install onnxruntime-gpu")
    assert (first, second) == ("!pip install peft", "!pip install onnxruntime-gpu")


@pytest.mark.parametrize(
    "source",
    [
        "!pip install diffusers transformers torch numpy",
        '!pip install "diffusers>=0.20" "torch"',
        "!pip uninstall -y diffusers xformers onnxruntime",
        "!pip freeze | grep torch==2.0.0",
        "!echo pip install torch==2.0.0",
        "# !pip install torch==2.0.0",
        'print("pip install torch==2.0.0")',
        'raise RuntimeError("pip install torch==2.0.0")',
        "!pip install -e .",
        'help = """\n!pip install torch==2.0.0 peft\n"""\n%cd x',
        "x = 7 % 3\nx = (7\n% 3)",
    ],
)
def test_what_changes_no_version_stays(source):
    assert doubts(source) == []


@pytest.mark.parametrize(
    ("source", "doubt"),
    [
        ("!pip install controlnet_aux==0.0.7", ("controlnet_aux==0.0.7", "unknown_pin")),
        ("!pip install -q -r requirements.txt", ("-r requirements.txt", "requirements_file")),
        ("run(['pip', 'install', '-qr', 'needs.txt'])", ("-qr needs.txt", "requirements_file")),
        ('os.system(f"pip install torch=={v}")', ('f"pip install torch=={v}"', "built_command")),
        ("%%writefile requirements.txt\ntorch==2.0.0\npeft", ("torch==2.0.0", "pins_elsewhere")),
        ('NEEDS = """\npeft\ndiffusers==0.24.0\n"""', ("diffusers==0.24.0", "pins_elsewhere")),
        ("!git clone https://github.com/InstantID/InstantID.git", None),
    ],
)
def test_what_cannot_be_repaired_with_certainty_is_named(source, doubt):
    expected = doubt or ("git clone https://github.com/InstantID/InstantID.git", "cloned")
    assert doubts(source) == [expected]
