"""The MNN engine of Enginebay. Nothing is imported here: the plugin module is found through its entry point."""
