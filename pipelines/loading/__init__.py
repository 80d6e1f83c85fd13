"""From shards to tensors, in threads, in an exact order, resumed by a seek."""

from pipelines.loading.loader import ShardLoader
from pipelines.loading.mixture import Mixture
from pipelines.loading.stats import BadSample, Stats

__all__ = ["BadSample", "Mixture", "ShardLoader", "Stats"]
