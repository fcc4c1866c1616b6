"""Shared fixtures: tiny pipelines, and the random bundle built once for the whole run."""

import os

# No test talks to a model hub or sends statistics, whatever the machine allows.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
