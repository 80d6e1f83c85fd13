"""Metrics of drawn images against real ones."""
