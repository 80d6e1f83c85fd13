"""javac builds the jar from source, completely or not at all, and only when necessary."""

import os
import subprocess
import sys
import zipfile

import pytest

import headrace.udfs.jar
from headrace.errors import RecipeError

HELLO = """package acme;
public final class Hello {
  /** Says &lt;hello&gt;. */
  public static int f(int n) { return n; }
}
"""


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "a folder with spaces"
    folder.mkdir()
    (folder / "Hello.java").write_text(HELLO)
    return folder


def fake_javac(folder, version):
    folder.mkdir()
    script = folder / "javac"
    script.write_text(f"#!/bin/sh\necho 'javac {version}'\n")
    script.chmod(0o755)
    return script


def test_a_jar_has_classes_parameter_names_and_javadoc(bridge_jar, source, tmp_path):
    jar = headrace.udfs.jar.build(source, tmp_path / "deep" / "hello.jar")
    with zipfile.ZipFile(jar) as content:
        assert "acme/Hello.class" in content.namelist()
        docs = content.read("META-INF/headrace/acme.Hello.properties").decode()
        assert b"MethodParameters" in content.read("acme/Hello.class")
    assert "f(int)=Says <hello>." in docs.replace("\\", "")


def test_nothing_is_done_when_the_jar_is_newer(bridge_jar, source, tmp_path, monkeypatch):
    jar = headrace.udfs.jar.build(source, tmp_path / "hello.jar")
    built = jar.stat()
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert headrace.udfs.jar.build(source, jar).stat() == built
    os.utime(source / "Hello.java")
    with pytest.raises(RecipeError, match="no JDK"):
        headrace.udfs.jar.build(source, jar)
    assert jar.stat().st_mtime_ns == built.st_mtime_ns


def test_a_source_that_javac_refuses_leaves_the_old_jar(bridge_jar, source, tmp_path):
    jar = headrace.udfs.jar.build(source, tmp_path / "hello.jar")
    before = jar.read_bytes()
    (source / "Hello.java").write_text(HELLO.replace("return n", "return m"))
    with pytest.raises(RecipeError, match=r"Hello\.java:4: error: cannot find symbol") as refusal:
        headrace.udfs.jar.build(source, jar)
    assert "\n" not in str(refusal.value)
    assert jar.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a folder with spaces", "hello.jar"]


def test_the_jdk_is_found_by_java_home_then_path(tmp_path, monkeypatch):
    at_home = fake_javac(tmp_path / "bin", "21.0.1")
    on_path = fake_javac(tmp_path / "path", "17.0.2")
    monkeypatch.setenv("PATH", str(on_path.parent))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert headrace.udfs.jar.javac() == at_home
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    assert headrace.udfs.jar.javac() == on_path


def test_an_old_jdk_or_none_is_one_clear_line(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(fake_javac(tmp_path / "old", "11.0.2").parent))
    with pytest.raises(RecipeError, match=r"'javac 11.0.2', expected 17 or newer"):
        headrace.udfs.jar.javac()
    (tmp_path / "Hello.java").write_text(HELLO)
    monkeypatch.setenv("PATH", "")
    assert headrace.udfs.jar.main(["--source", str(tmp_path), "--output", str(tmp_path / "x.jar")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("headrace: no JDK: javac is neither in JAVA_HOME nor on PATH")
    assert error.count("\n") == 1


def test_a_folder_without_java_and_a_jar_that_is_not_built(tmp_path, monkeypatch):
    with pytest.raises(RecipeError, match=r"no \.java file"):
        headrace.udfs.jar.build(tmp_path, tmp_path / "x.jar")
    monkeypatch.setattr(headrace.udfs.jar, "JAR", tmp_path / "gone.jar")
    with pytest.raises(RecipeError, match=r"build it with `python -m headrace\.udfs\.jar`"):
        headrace.udfs.jar.path()


def test_the_command_prints_where_the_jar_is(bridge_jar):
    done = subprocess.run(
        [sys.executable, "-m", "headrace.udfs.jar"], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == str(bridge_jar)
    assert done.stderr == ""
