"""Loading: threads turn shards into batches of tensors, in an exact order that resumes by a seek."""

from headrace.loading.feed.stats import BadSample, Stats
from headrace.loading.loader import ShardLoader
from headrace.loading.mixture import Mixture

__all__ = ["BadSample", "Mixture", "ShardLoader", "Stats"]
