"""From shards to tensors, in threads, in an exact order, resumed by a seek."""

from headrace.loading.feed.stats import BadSample, Stats
from headrace.loading.loader import ShardLoader
from headrace.loading.mixture import Mixture

__all__ = ["BadSample", "Mixture", "ShardLoader", "Stats"]
