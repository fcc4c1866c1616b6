"""The looks a person can pick, and the default negative prompt. The words are the project's own.

`prompt` and `negative` say how a style changes what the person wrote; `{prompt}` stands for their words.
"""

from dataclasses import dataclass

NO_STYLE = "none"

DEFAULT_NEGATIVE_PROMPT = (
    "lowres, blurry, jpeg artifacts, deformed face, crossed eyes, extra fingers, bad hands, "
    "watermark, signature, text, cropped head, duplicate person, oversaturated"
)


@dataclass(frozen=True)
class Style:
    """A look: its name in Spanish and English, and what it adds."""

    spanish: str
    english: str
    prompt: str = "{prompt}"
    negative: str = ""

    def apply(self, prompt: str, negative_prompt: str) -> tuple[str, str]:
        """The person's prompts with this style laid over them."""
        negatives = [part for part in (negative_prompt.strip(), self.negative) if part]
        return self.prompt.replace("{prompt}", prompt.strip()), ", ".join(negatives)


STYLES: dict[str, Style] = {
    NO_STYLE: Style("Sin estilo", "No style"),
    "photo": Style(
        "Retrato fotográfico",
        "Portrait photo",
        "portrait photograph of {prompt}, 85mm lens, soft window light, natural skin texture, shallow depth of field",
        "painting, drawing, cartoon, plastic skin",
    ),
    "cinema": Style(
        "Cine",
        "Cinema",
        "film still of {prompt}, anamorphic lens, dramatic side light, teal and amber grading, fine grain",
        "flat light, snapshot, drawing",
    ),
    "film_noir": Style(
        "Cine negro",
        "Film noir",
        "black and white film noir still of {prompt}, hard shadows of window blinds, smoke, high contrast",
        "colour, bright daylight",
    ),
    "watercolor": Style(
        "Acuarela",
        "Watercolour",
        "loose watercolour painting of {prompt}, wet edges, visible paper grain, pale washes, splashes of pigment",
        "photograph, 3d render, hard outlines",
    ),
    "oil": Style(
        "Óleo",
        "Oil painting",
        "oil painting of {prompt}, thick brush strokes, chiaroscuro, warm varnish, old master portrait",
        "photograph, flat colours",
    ),
    "ink": Style(
        "Tinta",
        "Ink",
        "ink drawing of {prompt}, confident brush lines, cross hatching, white paper, sparse composition",
        "photograph, colour gradients",
    ),
    "comic": Style(
        "Cómic",
        "Comic",
        "comic book panel of {prompt}, bold outlines, halftone dots, flat saturated colours, dynamic framing",
        "photograph, realistic skin",
    ),
    "anime": Style(
        "Anime",
        "Anime",
        "anime illustration of {prompt}, clean line art, cel shading, expressive eyes, detailed background",
        "photograph, realistic skin, western comic",
    ),
    "neon": Style(
        "Neón",
        "Neon",
        "night portrait of {prompt}, neon signs in magenta and cyan, wet street reflections, bokeh, haze",
        "daylight, pastel colours",
    ),
    "clay": Style(
        "Plastilina",
        "Clay figure",
        "stop motion clay figure of {prompt}, fingerprints in the clay, miniature set, soft studio light",
        "photograph of a real person, drawing",
    ),
    "paper": Style(
        "Papel recortado",
        "Paper cut",
        "layered paper cut portrait of {prompt}, coloured cardboard, small shadows between layers, clean shapes",
        "photograph, gradients, realistic skin",
    ),
    "fantasy": Style(
        "Fantasía",
        "Fantasy",
        "fantasy illustration of {prompt}, intricate costume, glowing particles, ancient forest, painterly light",
        "modern clothes, snapshot",
    ),
    "mars": Style(
        "Marte",
        "Mars",
        "{prompt} on the surface of Mars, red dust, space suit with open visor, low sun, vast landscape",
        "trees, city, blue sky",
    ),
}
