"""The command line: thin commands over the Python API. Needs the extra ``enginebay[cli]``."""
