"""Where data comes from: `read_dataset(DataSettings(...), seed)` gives a Dataset and a DataReport."""

from shelftalk.data.sources.locating import source_hashes
from shelftalk.data.sources.reading import DataReport, catalogue_order, read_dataset
from shelftalk.data.sources.settings import DataSettings

__all__ = ["DataReport", "DataSettings", "catalogue_order", "read_dataset", "source_hashes"]
