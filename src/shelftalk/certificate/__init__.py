"""What was checked about a run, by whom nothing is believed: its certificate, and `shelftalk verify`."""
