"""The small bundle: a whole InstantID of drawn people, trained from nothing by one command."""
