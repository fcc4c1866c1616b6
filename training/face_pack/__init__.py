"""Detector, recogniser, second recogniser and trait classifier of the small bundle, trained on the face world."""
