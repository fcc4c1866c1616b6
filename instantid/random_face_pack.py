"""A face pack of toy models in the two files that insightface expects: detector and recogniser.

Neither was trained. The detector is set by hand: it finds warm, bright blobs on darker or colder surroundings, which
a face against a plain background is, and says that the eyes, nose and mouth are in their usual places. It does not
know a face from an orange. The recogniser is a random convolutional network: the same crop gives the same embedding,
another crop gives another one, and that is all it can tell.

Both speak exactly the tensors of `scrfd_10g_bnkps.onnx` and `glintr100.onnx`, so everything around them is real.
"""

from pathlib import Path

import numpy as np
import onnx

from instantid.onnx_graph import OnnxGraph

CELL = 8  # pixels; the side of one cell of the detector's map, SCRFD's finest stride
FACE_HEIGHTS = {8: (29, 45), 16: (69, 106), 32: (163, 250)}  # stride -> pixels, two anchors per cell
WIDTH_TO_HEIGHT = 0.82  # of a face box
RING = (1.2, 1.6)  # the surround that is compared with the face, in face sizes
# Each quarter of the ring is compared by itself, so that the rim of something larger is no face. Right, below, left,
# above: what is below counts half, because there is a neck.
QUARTERS = (1.0, 0.5, 1.0, 1.0)
THRESHOLD = 0.37  # contrast of the face with its most alike quarter (0 … 1) that gives score 0.5
GAIN = 12.0  # steepness of the score around it
RIVALRY = 400.0  # how much a better anchor nearby takes from a score

# Left eye, right eye, nose, left and right mouth corner in a face box of side 1, measured from its centre.
KEY_POINTS = ((-0.20, -0.10), (0.20, -0.10), (0.0, 0.10), (-0.16, 0.27), (0.16, 0.27))

# The three tests of a skin colour, each a line over (R, G, B) in -1 … 1 and its bias, cut to 0 … 1; all must hold.
SKIN_TESTS = (
    ((10.0, -10.0, 0.0), -0.8),  # warm: red above green
    ((-4.0, 0.0, 10.0), 6.3),  # pale: blue not far below red, unlike wood and orange walls
    ((4.0, 0.0, 0.0), 1.8),  # bright
)

EMBEDDING_NORM = 20.0  # about what ArcFace's raw embeddings measure


def write_random_face_pack(folder: Path, seed: int = 0) -> Path:
    """Write `scrfd_10g_bnkps.onnx` and `glintr100.onnx` into `folder`, together under 4 MB.

    Args:
        seed: of the recogniser's weights, 0 … 2**32 - 1; the detector has none.

    Returns: `folder`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(blob_detector(), str(folder / "scrfd_10g_bnkps.onnx"))
    onnx.save(random_recogniser(seed), str(folder / "glintr100.onnx"))
    return folder


def blob_detector() -> onnx.ModelProto:
    """SCRFD's form: picture (1, 3, H, W) RGB in -1 … 1, H and W multiples of 32 -> scores, boxes and key points.

    Per stride 8, 16, 32: `score` (n, 1), `bbox` (n, 4) and `kps` (n, 10), distances in strides from the cell's corner,
    n = 2 anchors × cells, row by row. Boxes and key points are constants of the anchor, `FACE_HEIGHTS` high; faces
    between two of these sizes get the nearer one. What lies beyond the picture counts as skin, so that a face which
    fills the picture has no surround and is missed, as real detectors miss tight crops.
    """
    graph = OnnxGraph()
    skin = _skin_map(graph, "input")
    heights = [height for pair in FACE_HEIGHTS.values() for height in pair]
    contrasts = [_contrast(graph, skin, height) for height in heights]
    best = graph.add("ReduceMax", graph.add("Concat", *contrasts, axis=1), axes=[1])
    scores = {}
    for height, contrast in zip(heights, contrasts):
        reach = round(height * WIDTH_TO_HEIGHT / 2 / CELL)
        rival = graph.add("MaxPool", best, kernel_shape=[2 * reach + 1] * 2, pads=[reach] * 4, strides=[1, 1])
        own = graph.add("Mul", graph.add("Sub", contrast, THRESHOLD), GAIN)
        taken = graph.add("Mul", graph.add("Sub", rival, contrast), RIVALRY)
        scores[height] = graph.add("Sigmoid", graph.add("Sub", own, taken))

    outputs: dict[str, list[str]] = {"score": [], "bbox": [], "kps": []}
    for stride, pair in FACE_HEIGHTS.items():
        both = graph.add("Concat", *(scores[height] for height in pair), axis=1)
        pooled = graph.add("MaxPool", both, kernel_shape=[stride // CELL] * 2, strides=[stride // CELL] * 2)
        by_cell = graph.add("Transpose", pooled, perm=[0, 2, 3, 1])
        outputs["score"].append(graph.add("Reshape", by_cell, [-1, 1], name=f"score_{stride}"))
        # What an anchor says about place does not depend on the picture: 0 × score + constant, in the score's shape.
        cells = graph.add("Reshape", by_cell, [-1, 2, 1])
        for kind, places in (("bbox", _box(pair, stride)), ("kps", _key_points(pair, stride))):
            width = places.shape[-1]
            nothing = graph.add("MatMul", cells, np.zeros((1, width)))
            said = graph.add("Add", nothing, places)
            outputs[kind].append(graph.add("Reshape", said, [-1, width], name=f"{kind}_{stride}"))
    widths = {"score": 1, "bbox": 4, "kps": 10}
    return graph.model(
        "hand-set blob detector in SCRFD's form",
        ("input", (1, 3, "height", "width")),  # named, as in the published file: insightface 0.7.3 asks for it
        [(name, (None, widths[kind])) for kind, names in outputs.items() for name in names],
    )


def random_recogniser(seed: int = 0) -> onnx.ModelProto:
    """ArcFace's form: face crop (1, 3, 112, 112) RGB in -1 … 1 -> embedding (1, 512) of length about 20.

    The last layer sums to zero over each channel's places: the mean colour, which all crops share, says nothing.
    """
    random = np.random.RandomState(seed)
    graph = OnnxGraph()
    x, channels = "input", 3
    for wider in (8, 16, 24, 16):  # 112 -> 56 -> 28 -> 14 -> 7
        kernel = random.standard_normal((wider, channels, 3, 3)) / (9 * channels / 2) ** 0.5
        x = graph.add("Relu", graph.add("Conv", x, kernel, pads=[1] * 4, strides=[2, 2]))
        channels = wider
    last = random.standard_normal((512, channels, 7 * 7))
    last -= last.mean(axis=-1, keepdims=True)
    embedding = graph.add("Gemm", graph.add("Flatten", x), last.reshape(512, -1), transB=1)
    direction = graph.add("LpNormalization", embedding, axis=1, p=2)
    graph.add("Mul", direction, EMBEDDING_NORM, name="embedding")
    return graph.model("random recogniser in ArcFace's form", ("input", (1, 3, 112, 112)), [("embedding", (1, 512))])


def _skin_map(graph: OnnxGraph, picture: str) -> str:
    """(1, 3, H, W) -> (1, 1, H/8, W/8) in 0 … 1: how much of each cell has a skin's colour."""
    lines = np.array([line for line, _ in SKIN_TESTS]).reshape(-1, 3, 1, 1)
    biases = np.array([bias for _, bias in SKIN_TESTS])
    passed = graph.add("Clip", graph.add("Conv", picture, lines, biases), 0.0, 1.0)
    count = len(SKIN_TESTS)
    all_passed = graph.add("Relu", graph.add("Conv", passed, np.ones((1, count, 1, 1)), np.array([1.0 - count])))
    return graph.add("AveragePool", all_passed, kernel_shape=[CELL] * 2, strides=[CELL] * 2)


def _contrast(graph: OnnxGraph, skin: str, height: int) -> str:
    """(1, 1, H/8, W/8), at most 1: the mean over a face `height` pixels high less that over its most alike quarter."""
    kernels = _centre_surround_kernels(height / CELL)
    radius = kernels.shape[-1] // 2
    padded = graph.add("Pad", skin, [0, 0, radius, radius, 0, 0, radius, radius], 1.0, mode="constant")
    return graph.add("ReduceMin", graph.add("Conv", padded, kernels), axes=[1])


def _centre_surround_kernels(height: float) -> np.ndarray:
    """Kernels (4, 1, k, k): the mean over an ellipse `height` cells high less that over each quarter of its ring."""
    radius = int(np.ceil(height * RING[1] / 2))
    fine = 5  # points per cell and axis, so that the smallest ellipses keep their area
    places = (np.arange((2 * radius + 1) * fine) + 0.5) / fine - radius - 0.5
    y, x = places[:, None], places[None, :] / WIDTH_TO_HEIGHT
    size = 2 * np.hypot(x, y) / height  # 1 on the face's outline
    quarter = np.round(np.arctan2(y, x) / (np.pi / 2)) % 4
    face, ring = size <= 1, (size > RING[0]) & (size <= RING[1])
    kernels = []
    for index, weight in enumerate(QUARTERS):
        part = ring & (quarter == index)
        kernel = face / face.sum() - weight * part / part.sum()
        kernels.append(kernel.reshape(2 * radius + 1, fine, 2 * radius + 1, fine).sum(axis=(1, 3)))
    return np.stack(kernels)[:, None]


def _box(heights: tuple[int, int], stride: int) -> np.ndarray:
    """(2, 4): distances in strides from a cell's corner to left, top, right and bottom of each anchor's box."""
    sides = np.array([(-WIDTH_TO_HEIGHT, -1.0, WIDTH_TO_HEIGHT, 1.0)]) / 2 * np.array(heights)[:, None]
    return (sides / stride + 0.5) * (-1, -1, 1, 1)


def _key_points(heights: tuple[int, int], stride: int) -> np.ndarray:
    """(2, 10): five points (x, y) in strides from a cell's corner, for each anchor."""
    points = np.array(KEY_POINTS) * (WIDTH_TO_HEIGHT, 1.0)
    return points.reshape(1, 10) * np.array(heights)[:, None] / stride + 0.5
