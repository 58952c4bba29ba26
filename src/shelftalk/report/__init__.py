"""Tables, intervals and plots of a run: one self-contained HTML page, Markdown and JSON."""
