"""The engine ``toy``."""
