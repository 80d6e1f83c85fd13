"""SQL functions written in Java over `Optional`: `udfs.register(spark, "headrace.Captions").best(alt, captions, 3)`."""

from headrace.udfs.namespace import Namespace
from headrace.udfs.registration import add_jar, register
from headrace.udfs.thread_table import Thread, threads

__all__ = ["Namespace", "Thread", "add_jar", "register", "threads"]
