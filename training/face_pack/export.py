"""Trained weights -> the ONNX files of the bundle. Needs onnx; runs on any machine, later too.

python -m training.face_pack.export --output RUN
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import onnx
from torch import nn

from instantid.messages import explain, system_language
from instantid.onnx_graph import OnnxGraph
from ip_adapter.errors import InstantIDError
from training.face_pack.alignment import CROP
from training.face_pack.detector import OUTPUTS, STRIDES, Detector
from training.face_pack.recognisers import EMBEDDING_WIDTH
from training.face_pack.stages import STAGES, weights_file
from training.face_pack.to_onnx import append_network
from training.face_pack.traits import CLASSES, SIDE, TraitClassifier
from training.face_pack.weights import load_weights

FILES = {
    "detector": "antelopev2/scrfd_10g_bnkps.onnx",
    "recogniser": "antelopev2/glintr100.onnx",
    "scorer": "scoring/recogniser.onnx",
    "traits": "scoring/traits.onnx",
}


def export_face_pack(output: Path, bundle: Path | None = None, names: Iterable[str] = STAGES) -> list[Path]:
    """Write the ONNX files of the networks `names`, whose weights are in `output`, into `bundle` (`output/bundle`).

    Raises: UserError where weights are missing.
    """
    written = []
    for name in names:
        network = load_weights(STAGES[name].network(), weights_file(output, name))
        file = (bundle or output / "bundle") / FILES[name]
        file.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(as_onnx(network), str(file))
        written.append(file)
    return written


def as_onnx(network: nn.Module) -> onnx.ModelProto:
    """The form that insightface reads for a detector or a recogniser, and a like one for the trait classifier."""
    if isinstance(network, Detector):
        return detector_onnx(network)
    return traits_onnx(network) if isinstance(network, TraitClassifier) else recogniser_onnx(network)


def detector_onnx(network: Detector) -> onnx.ModelProto:
    """SCRFD's form: picture (1, 3, H, W) RGB in -1 … 1, H and W multiples of 32 -> nine outputs, see `Detector`."""
    graph = OnnxGraph()
    maps = append_network(graph, network, "input")
    wanted = []
    for i, (kind, width) in enumerate(OUTPUTS.items()):
        for stride, said in zip(STRIDES, maps[3 * i : 3 * i + 3]):
            name = f"{kind}_{stride}"
            by_cell = graph.add("Transpose", said, perm=[0, 2, 3, 1])
            if kind == "score":
                by_cell = graph.add("Sigmoid", by_cell)
            graph.add("Reshape", by_cell, [-1, width], name=name)
            wanted.append((name, (None, width)))
    # The sides are named, as in the published file: insightface 0.7.3 asks for their names.
    return graph.model("small SCRFD, drawn faces", ("input", (1, 3, "height", "width")), wanted)


def recogniser_onnx(network: nn.Module) -> onnx.ModelProto:
    """ArcFace's form: aligned crops (n, 3, 112, 112) RGB in -1 … 1 -> raw embeddings (n, 512)."""
    graph = OnnxGraph()
    embedding = append_network(graph, network, "input")
    graph.add("Identity", embedding, name="embedding")
    wanted = [("embedding", (None, EMBEDDING_WIDTH))]
    return graph.model("small recogniser, drawn faces", ("input", (None, 3, CROP, CROP)), wanted)


def traits_onnx(network: TraitClassifier) -> onnx.ModelProto:
    """Pictures (n, 3, 128, 128) RGB in -1 … 1 -> probabilities (n, classes) for each trait.

    The names of a trait's classes are in the metadata, a JSON list under the output's name.
    """
    graph = OnnxGraph()
    for name, said in zip(CLASSES, append_network(graph, network, "input")):
        graph.add("Softmax", said, axis=1, name=name)
    wanted = [(name, (None, len(classes))) for name, classes in CLASSES.items()]
    return graph.model("traits of drawn pictures", ("input", (None, 3, SIDE, SIDE)), wanted, CLASSES)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.face_pack.export", description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the training run")
    parser.add_argument("--bundle", type=Path, help="bundle to write into [bundle/ in the run]")
    options = parser.parse_args(arguments)
    try:
        for file in export_face_pack(options.output, options.bundle):
            print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")
    except InstantIDError as error:
        print(f"❌ {explain(error, system_language())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
