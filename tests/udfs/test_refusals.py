"""Registration refuses what cannot be a function, and names class, method, parameter and type."""

import pytest

from headrace import udfs
from headrace.errors import RecipeError

REFUSED = {
    "RawType": "parameter words: raw type java.util.List",
    "TypeVariable": "type variable T",
    "BareWildcard": "parameter words: wildcard ? has no upper bound",
    "LowerWildcard": "parameter words: wildcard ? super java.lang.Integer has no upper bound",
    "InstanceMethod": "is an instance method",
    "NotPublic": "is not public",
    "NoCounterpart": "parameter when: type java.util.Date has no SQL counterpart",
    "NoCounterpartInside": "parameter threads: type java.lang.Thread has no SQL counterpart",
    "OneCharacter": "parameter letter: type char has no SQL counterpart",
    "AnyObject": "parameter any: type java.lang.Object has no SQL counterpart",
    "NoResult": "result: type void has no SQL counterpart",
    "GenericResult": "result: type java.lang.Iterable<java.lang.String> has no SQL counterpart",
    "TwoLevels": "parameter text: java.util.Optional<java.util.Optional<java.lang.String>>",
    "OptionalKey": "parameter map: ",
    "Recursive": "record acme.Refused$Node contains itself",
    "HiddenRecord": "type acme.Refused$Hidden is not public",
    "OddComponent": "component thread of record acme.Refused$Odd: type java.lang.Thread",
    "Empty": "has no public static method",
    "AlikeOptional": "Spark cannot distinguish",
    "AlikeBoxed": "Spark cannot distinguish",
    "AlikeContainers": "Spark cannot distinguish",
    "AlikeNames": "Spark cannot distinguish",
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_refusal_names_what_is_wrong(spark, acme_jar, name):
    with pytest.raises(RecipeError) as refusal:
        udfs.register(spark, f"acme.Refused${name}", jar=acme_jar)
    message = str(refusal.value)
    assert REFUSED[name] in message
    assert f"acme.Refused${name}" in message
    assert "\n" not in message
    if "parameter" in REFUSED[name]:
        assert f"acme.Refused${name}.f" in message


def test_nothing_is_registered_of_a_class_that_is_refused(spark, acme_jar):
    with pytest.raises(RecipeError, match="Spark cannot distinguish"):
        udfs.register(spark, "acme.Refused$AlikeOptional", jar=acme_jar, prefix="refused_")
    assert not spark.catalog.functionExists("refused_f")


def test_a_class_or_a_jar_that_is_not_there(spark, bridge_jar, tmp_path):
    with pytest.raises(RecipeError, match=r"class no\.such\.Thing is in no jar of this session"):
        udfs.register(spark, "no.such.Thing")
    with pytest.raises(RecipeError, match=r"found no file .*gone\.jar"):
        udfs.register(spark, "no.such.Thing", jar=tmp_path / "gone.jar")
    (tmp_path / bridge_jar.name).touch()
    with pytest.raises(RecipeError, match=r"but the session has file:///.*expected another file name"):
        udfs.register(spark, "no.such.Thing", jar=tmp_path / bridge_jar.name)
    with pytest.raises(RecipeError, match=r"found no file 'file:.*gone\.jar"):
        udfs.register(spark, "no.such.Thing", jar=(tmp_path / "gone.jar").as_uri())
    with pytest.raises(
        RecipeError, match=r"found 'nowhere://host/a\.jar', expected a jar at a path or a URI that Spark"
    ):
        udfs.register(spark, "no.such.Thing", jar="nowhere://host/a.jar")
    with pytest.raises(RecipeError, match="on_error: 'ignore', expected 'fail' or 'absent'"):
        udfs.register(spark, "headrace.Captions", on_error="ignore")
