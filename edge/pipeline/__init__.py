"""The stages in their order, the ledger of web rows, latency."""
