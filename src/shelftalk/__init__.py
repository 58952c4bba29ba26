"""shelftalk aligns language models with recommendation knowledge and makes recommenders of them."""

__version__ = "0.1.0"
