"""Java functions over Optional as SQL functions: `udfs.register(spark, "headrace.Captions").best(alt, captions, 3)`."""

from udfs.namespace import Namespace
from udfs.registration import add_jar, register
from udfs.thread_table import Thread, threads

__all__ = ["Namespace", "Thread", "add_jar", "register", "threads"]
