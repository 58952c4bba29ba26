"""A recommender as an HTTP service: a store of items and events, a catalogue that changes while it serves,
requests answered in batches, and a page."""
