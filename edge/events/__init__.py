"""Defect, coverage, alarm and status events: outbox, publisher, subscriber."""
