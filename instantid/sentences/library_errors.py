"""Spanish for the errors that `ip_adapter` and the pipeline file raise in English: error code -> Spanish."""

SPANISH_LIBRARY_ERRORS: dict[str, str] = {}
