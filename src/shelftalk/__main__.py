"""`python -m shelftalk` is the `shelftalk` command."""

from shelftalk.app.cli import app

if __name__ == "__main__":
    app()
