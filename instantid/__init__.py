"""The application around the InstantID pipeline: weights, faces, memory, generation, interface, command line."""

import os

# Each library reads its own when it is imported. No usage is reported and no newest version is asked for; remarks about
# optional packages are not for the person in front of us.
QUIET_LIBRARIES = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "NO_ALBUMENTATIONS_UPDATE": "1",  # insightface 0.7 brings it along
    "TRANSFORMERS_VERBOSITY": "error",
}
for _name, _value in QUIET_LIBRARIES.items():
    os.environ.setdefault(_name, _value)
