"""Metrics that compare drawn images with real ones."""
