"""``/v1/responses``: answers that can be asked for again, and conversations that go on."""
