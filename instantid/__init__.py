"""The application around the InstantID pipeline: weights, faces, memory, generation, interface, command line."""
