"""Each performance claim is a script here; `python -m benchmarks --list` names them, results/ keeps what was
measured."""
