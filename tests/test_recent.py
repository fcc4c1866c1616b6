"""What was computed lately is kept, and only that."""

from ip_adapter.recent import Recent


def test_what_was_made_lately_is_not_made_again():
    recent, made = Recent(2), []

    def make(key):
        return recent.get(key, lambda: made.append(key) or key.upper())

    assert [make(key) for key in "aabab"] == list("AABAB")
    assert made == ["a", "b"]


def test_the_result_not_asked_for_longest_goes_first():
    recent, made = Recent(2), []
    for key in "abacab":
        recent.get(key, lambda key=key: made.append(key))
    assert made == ["a", "b", "c", "b"]


def test_what_failed_is_tried_again():
    recent = Recent(1)
    for fails in (True, False):
        try:
            assert recent.get("key", lambda fails=fails: 1 / (not fails)) == 1
        except ZeroDivisionError:
            assert fails
