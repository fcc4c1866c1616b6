"""What InstantID adds to SDXL: the Resampler, identity attention, and their checkpoint. Depends on torch alone.

Nothing heavy is imported here, so that `ip_adapter.errors` can be read on a machine without torch.
"""
