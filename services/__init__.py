"""The processes: each is started by ``python -m services.<name>``, wires parts of ``gsi``, knows no other process."""
