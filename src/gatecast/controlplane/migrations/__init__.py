"""The control plane's own tables."""
