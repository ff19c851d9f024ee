"""llama.cpp as an engine of Enginebay. It knows nothing; ``plugin`` is the entry point."""
