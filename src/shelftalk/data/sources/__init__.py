"""Where data comes from: `read_dataset(DataSettings(...), seed)` gives a Dataset and a DataReport."""

from shelftalk.data.sources.reading import DataReport, read_dataset, source_hashes
from shelftalk.data.sources.settings import DataSettings

__all__ = ["DataReport", "DataSettings", "read_dataset", "source_hashes"]
