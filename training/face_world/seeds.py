"""Who is trained on, and who never is: the seeds of all people and scenes, here and nowhere else.

Another seed is another population, and other scenes.
"""

# The face pack: each of its networks has people of its own, so that no two agree because they saw the same ones.
DETECTOR, RECOGNISER, SCORER, TRAITS = 1, 2, 3, 4
# The small bundle: one population, and scenes for each stage.
BUNDLE_PEOPLE = 7_000_101
VAE_SCENES, BASE_SCENES, IDENTITY_SCENES = 7_000_102, 7_000_103, 7_000_104
TRAINED = (DETECTOR, RECOGNISER, SCORER, TRAITS, BUNDLE_PEOPLE, VAE_SCENES, BASE_SCENES, IDENTITY_SCENES)

FACE_PACK_CHECK = 0  # figures of the face pack
WATCHED = 7_000_900  # pictures made while training, and the examples that the bundle brings
EVALUATED_PEOPLE, EVALUATED_SCENES, EVALUATED_POSES = 8_600_101, 8_600_102, 8_600_103
HELD_OUT = (FACE_PACK_CHECK, WATCHED, EVALUATED_PEOPLE, EVALUATED_SCENES, EVALUATED_POSES)
