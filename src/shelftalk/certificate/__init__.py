"""What was checked about a run: its certificate, and `shelftalk verify`, which checks it again."""
