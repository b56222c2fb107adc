"""Generated from ``protos/gsi/v1`` by ``make protos``; committed, never edited by hand."""
