"""Java functions over Optional as SQL functions: `udfs.register(spark, "headrace.Captions").best(alt, captions, 3)`."""

from udfs.namespace import Namespace
from udfs.registration import register
from udfs.thread_table import Thread, threads

__all__ = ["Namespace", "Thread", "register", "threads"]
