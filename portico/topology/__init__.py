"""A runtime described in YAML. See `topology.py` for the way in, `model.py` for the keys."""
