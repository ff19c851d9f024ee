"""The engine ``echo``: it says again what was said last. No weights, no native library, the same tokens everywhere."""
