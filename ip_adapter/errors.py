"""The one family of errors that a person can cause or meet.

Every error carries a stable `code`, an English sentence for scripts and logs, and the `facts` of the case, so that an
application can say the same thing in another language without parsing the sentence. Bugs are not in this family: they
keep their own type and their traceback.
"""


class InstantIDError(Exception):
    """Base of the family; catch this at the edge (interface, notebook, command line).

    Args:
        code: dotted name of the case, for example `"adapter.truncated"`; never changes once published.
        template: English sentence with `{named}` places: what was received, what was needed, what to do.
        **facts: the values of those places.
    """

    def __init__(self, code: str, template: str, **facts: object) -> None:
        super().__init__(template.format(**facts))
        self.code = code
        self.facts = facts


class UserError(InstantIDError, ValueError):
    """Something given is not usable: a file, a number, a photograph, a combination of options."""


class StateError(InstantIDError, RuntimeError):
    """The pipeline is not in a state to do this: no adapter loaded, identity removed, already running, cancelled."""


class MachineError(InstantIDError, RuntimeError):
    """This machine cannot do it: out of memory, disk full, no network, a library that is missing."""
