"""Java functions over Optional as SQL functions.

    fns = udfs.register(spark, "headrace.Captions")
    df.select(fns.best("alt", "captions", min_words=3))
    spark.sql("SELECT best(alt, captions, 3) FROM images")
"""

from udfs.namespace import Namespace
from udfs.registration import register
from udfs.thread_table import Thread, threads

__all__ = ["Namespace", "Thread", "register", "threads"]
