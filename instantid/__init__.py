"""The application around the InstantID pipeline: weights, faces, memory, generation, interface, command line."""

import os

# Read when transformers is imported. Its remarks about optional packages are not for the person in front of us.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
