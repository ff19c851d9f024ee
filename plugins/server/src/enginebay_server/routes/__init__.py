"""The endpoints, a module for each form of the API."""
