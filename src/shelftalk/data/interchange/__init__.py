"""A split as files for other libraries: `export_split(split, folder, format, name)`."""

from shelftalk.data.interchange.export import FORMATS, export_split

__all__ = ["FORMATS", "export_split"]
