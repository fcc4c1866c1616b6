"""Training: from nothing to the small bundle that is shipped. Not installed with the app, not in the notebook's zip."""
