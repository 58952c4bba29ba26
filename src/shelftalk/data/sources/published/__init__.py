"""Readers of published data sets, as they were published: one module per family, named in layouts.py."""
