"""`python -m shelftalk` is the `shelftalk` command."""

from shelftalk.cli import app

if __name__ == "__main__":
    app()
