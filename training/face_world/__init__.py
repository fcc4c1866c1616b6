"""The face world: drawn people with known identity, pose, expression, light, style and scene, in batches.

`people` and `scenes` draw traits and scenes from numbers, `render` makes pictures of them, `captions` says in words
what a scene shows. The same (seed, index) gives the same person, scene and caption on every machine.
"""

from training.face_world import seeds
from training.face_world.captions import captions, vocabulary
from training.face_world.render import Rendering, render
from training.face_world.scene import Scenes, scenes
from training.face_world.traits import TRAITS, people

__all__ = ["TRAITS", "Rendering", "Scenes", "captions", "people", "render", "scenes", "seeds", "vocabulary"]
