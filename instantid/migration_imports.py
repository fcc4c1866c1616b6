"""Repair of imports and calls that the libraries have moved, renamed or dropped.

Every replacement works on diffusers 0.30 and on the newest, on gradio 4.44 and on the newest; the tests import each.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from instantid.migration_cells import Cell, Edit, Findings, dotted_name, last_name, without_items

# (module, name) as it was -> (module, name) as it is.
_CONTROLNETS = ("diffusers.pipelines.controlnet.pipeline_controlnet_sd_xl", "MultiControlNetModel")
_HUB_ERRORS = (
    "EntryNotFoundError",
    "HfHubHTTPError",
    "LocalEntryNotFoundError",
    "RepositoryNotFoundError",
    "RevisionNotFoundError",
)
# The original's other pipeline files; here one file holds them all.
_PIPELINE = "pipeline_stable_diffusion_xl_instantid"
_PIPELINES = {"full": "StableDiffusionXLInstantIDPipeline", "img2img": "StableDiffusionXLInstantIDImg2ImgPipeline"}
MOVED: dict[tuple[str, str], tuple[str, str]] = {
    ("diffusers.models.controlnet", "ControlNetModel"): ("diffusers", "ControlNetModel"),
    # Its home has another path in each version; the pipeline that uses it imports it in all of them.
    ("diffusers.pipelines.controlnet", "MultiControlNetModel"): _CONTROLNETS,
    ("diffusers.pipelines.controlnet.multicontrolnet", "MultiControlNetModel"): _CONTROLNETS,
    ("diffusers.models.controlnets.multicontrolnet", "MultiControlNetModel"): _CONTROLNETS,
    ("diffusers.models.unet_2d_condition", "UNet2DConditionModel"): ("diffusers", "UNet2DConditionModel"),
    ("diffusers.models.autoencoder_kl", "AutoencoderKL"): ("diffusers", "AutoencoderKL"),
    ("diffusers.models.transformer_2d", "Transformer2DModel"): ("diffusers", "Transformer2DModel"),
    ("diffusers.models.cross_attention", "CrossAttention"): ("diffusers.models.attention_processor", "Attention"),
    ("diffusers.modeling_utils", "ModelMixin"): ("diffusers", "ModelMixin"),
    ("diffusers.pipeline_utils", "DiffusionPipeline"): ("diffusers", "DiffusionPipeline"),
    ("diffusers.loaders", "FromCkptMixin"): ("diffusers.loaders", "FromSingleFileMixin"),
    ("diffusers.utils", "randn_tensor"): ("diffusers.utils.torch_utils", "randn_tensor"),
    ("diffusers.utils", "is_compiled_module"): ("diffusers.utils.torch_utils", "is_compiled_module"),
    ("transformers", "CLIPFeatureExtractor"): ("transformers", "CLIPImageProcessor"),
    **{("huggingface_hub.utils._errors", name): ("huggingface_hub.utils", name) for name in _HUB_ERRORS},
    **{
        (f"{_PIPELINE}_{file}", name): (_PIPELINE, name)
        for file, pipeline in _PIPELINES.items()
        for name in (pipeline, "draw_kps")
    },
}

# What is gone without a stand-in that takes the same arguments.
GONE = {
    ("huggingface_hub", "cached_download"),
    ("diffusers.models.controlnet", "ControlNetOutput"),
    ("ip_adapter.utils", "is_torch2_available"),
    ("ip_adapter.attention_processor", "IPAttnProcessor"),
    ("ip_adapter.attention_processor", "IPAttnProcessor2_0"),
}

VAE_SWITCHES = {
    f"{verb}_vae_{what}": f"vae.{verb}_{what}" for verb in ("enable", "disable") for what in ("slicing", "tiling")
}

# Function -> options that it no longer takes, and that changed nothing for some time before.
DROPPED_OPTIONS = {
    "hf_hub_download": {"resume_download", "local_dir_use_symlinks"},
    "snapshot_download": {"resume_download", "local_dir_use_symlinks"},
    "launch": {"enable_queue"},
    "queue": {"concurrency_count"},
}

# Parts of a gradio page that stand directly in `gradio`, and what their arguments have become.
COMPONENTS = re.compile(
    r"Audio|Checkbox|CheckboxGroup|Dataframe|Dropdown|File|Gallery|HTML|Image|JSON|Label|Markdown|Number|Radio|Slider|"
    r"Textbox|Video"
)
DROPPED_ARGUMENTS = {"optional", "shape", "tool", "invert_colors", "keep_filename"}


def repair_imports(cells: Sequence[Cell]) -> Findings:
    """Names where they are now, and calls as they are now."""
    findings = Findings()
    gradio = {name for cell in cells for name in _names_of("gradio", cell)}
    resources = _is_simple("pkg_resources", cells)
    for index, cell in enumerate(cells):
        for node in cell.walk():
            if isinstance(node, ast.ImportFrom) and not node.level:
                _repair_import(cell, index, node, findings)
            elif isinstance(node, ast.Attribute):
                _repair_attribute(cell, index, node, gradio, findings)
            elif isinstance(node, ast.Call):
                _repair_call(cell, index, node, gradio, findings)
            if isinstance(node, ast.Import | ast.ImportFrom | ast.Attribute):
                _repair_pkg_resources(cell, index, node, resources, findings)
    return findings


def _repair_import(cell: Cell, index: int, node: ast.ImportFrom, findings: Findings) -> None:
    """`from module import name, …`: what moved is imported by a line of its own, the other names stay."""
    moved: dict[int, tuple[str, str]] = {}
    for place, alias in enumerate(node.names):
        if (node.module, alias.name) in GONE:
            findings.doubt(index, f"from {node.module} import {alias.name}", "migration.import_gone")
        elif new := MOVED.get((node.module, alias.name)):
            moved[place] = new
    if not moved:
        return
    lines: dict[str, list[str]] = {}
    for place, (module, name) in moved.items():
        known_as = node.names[place].asname or node.names[place].name
        lines.setdefault(module, []).append(name if name == known_as else f"{name} as {known_as}")
    statements = [f"from {module} import {', '.join(names)}" for module, names in lines.items()]
    start, end = cell.span(node)
    if len(moved) < len(node.names):
        kept = [Edit(*span, "", None) for span in without_items(cell, node.names, set(moved)).values()]
        after = len(cell.source) - end
        statements.append(cell.edited(kept).source[start : -after or None])
    whole = cell.lines_of(node)
    separator = "\n" + cell.source[whole[0] : start] if whole else "; "
    findings.edit(index, start, end, separator.join(statements), "migration.import")


def _repair_attribute(cell: Cell, index: int, node: ast.Attribute, gradio: set[str], findings: Findings) -> None:
    start, end = cell.span(node)
    if node.attr in VAE_SWITCHES:
        findings.edit(index, end - len(node.attr), end, VAE_SWITCHES[node.attr], "migration.vae")
    root, *path = (dotted_name(node) or "").split(".")
    if root not in gradio or len(path) != 2:
        return
    if path[0] in ("inputs", "outputs") and COMPONENTS.fullmatch(path[1]):
        findings.edit(index, start, end, f"{root}.{path[1]}", "migration.gradio")
    elif COMPONENTS.fullmatch(path[0]) and path[1] == "update":
        findings.edit(index, start, end, f"{root}.update", "migration.gradio")
    elif path[0] in ("inputs", "outputs"):
        findings.doubt(index, dotted_name(node), "migration.import_gone")


def _repair_call(cell: Cell, index: int, node: ast.Call, gradio: set[str], findings: Findings) -> None:
    dropped = DROPPED_OPTIONS.get(last_name(node.func), set())
    reason = "migration.option"
    root, *path = (dotted_name(node.func) or "").split(".")
    if root in gradio and path and COMPONENTS.fullmatch(path[-1]):
        dropped, reason = DROPPED_ARGUMENTS, "migration.gradio"
        for keyword in node.keywords:
            start, end = cell.span(keyword)
            written = cell.text(keyword.value)
            if keyword.arg == "default":
                findings.edit(index, start, end, f"value={written}", reason)
            elif keyword.arg == "source" and isinstance(keyword.value, ast.Constant):
                findings.edit(index, start, end, f"sources=[{written}]", reason)
    given = sorted([*node.args, *node.keywords], key=lambda item: (item.lineno, item.col_offset))
    gone = {i for i, item in enumerate(given) if isinstance(item, ast.keyword) and item.arg in dropped}
    if gone:
        for start, end in without_items(cell, given, gone).values():
            findings.edit(index, start, end, "", reason)


def _repair_pkg_resources(
    cell: Cell, index: int, node: ast.Import | ast.ImportFrom | ast.Attribute, simple: bool, findings: Findings
) -> None:
    """New versions of setuptools have no `pkg_resources`; for versions Python has a module of its own."""
    if isinstance(node, ast.ImportFrom):
        if node.module == "pkg_resources":
            findings.doubt(index, cell.text(node), "migration.pkg_resources")
    elif isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name == "pkg_resources" and simple:
                findings.edit(index, *cell.span(alias), "importlib.metadata", "migration.version_module")
            elif alias.name == "pkg_resources":
                findings.doubt(index, cell.text(node), "migration.pkg_resources")
    elif simple and _asks_version(node):
        start, end = cell.span(node)
        arguments = cell.source[cell.span(node.value.func)[1] : cell.span(node.value)[1]]
        findings.edit(index, start, end, f"importlib.metadata.version{arguments}", "migration.version_module")
    elif simple and dotted_name(node) == "pkg_resources.DistributionNotFound":
        text = "importlib.metadata.PackageNotFoundError"
        findings.edit(index, *cell.span(node), text, "migration.version_module")


def _is_simple(module: str, cells: Sequence[Cell]) -> bool:
    """Is `pkg_resources` used for nothing but versions?"""
    uses, known = 0, 0
    for node in (node for cell in cells for node in cell.walk()):
        if isinstance(node, ast.Import) and any(alias.name == module and alias.asname for alias in node.names):
            return False
        uses += isinstance(node, ast.Name) and node.id == module
        known += _asks_version(node) or dotted_name(node) == f"{module}.DistributionNotFound"
    return uses == known


def _asks_version(node: ast.AST) -> bool:
    """`pkg_resources.get_distribution(…).version`"""
    return (
        isinstance(node, ast.Attribute)
        and node.attr == "version"
        and isinstance(node.value, ast.Call)
        and dotted_name(node.value.func) == "pkg_resources.get_distribution"
    )


def _names_of(module: str, cell: Cell) -> Iterator[str]:
    """The names that a module is imported by."""
    for node in cell.walk():
        if isinstance(node, ast.Import):
            yield from (alias.asname or alias.name for alias in node.names if alias.name == module)
