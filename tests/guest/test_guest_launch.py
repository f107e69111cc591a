"""Finding and preparing a program: a shell's statuses, and one line that says what and why."""

from __future__ import annotations

import errno
import os
import pickle

import pytest
from test_guest_elf import elf

from quire.guest.load.launch import LaunchError, find_program, prepare, prepare_file


def fails(call, *arguments):
    with pytest.raises(LaunchError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return caught.value.status, str(caught.value)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(path, text, mode=0o755):
    path.write_text(text)
    path.chmod(mode)
    return path


def program(path):
    elf(path)
    path.chmod(0o755)
    return path


class TestFind:
    def test_path_order(self, folder):
        for name in ("one", "two"):
            (folder / name).mkdir()
        program(folder / "two" / "tool")
        (folder / "one" / "tool").mkdir()
        assert find_program("tool", f"{folder}/one:{folder}/two", "/") == f"{folder}/two/tool"
        program(folder / "tool")
        assert find_program("tool", ":/bin", str(folder)) == "tool"
        assert find_program("./tool", None, str(folder)) == "./tool"
        assert find_program("sh", None, "/") == "/bin/sh"

    def test_refusals(self, folder):
        where = str(folder)
        script(folder / "plain", "x", 0o644)
        assert fails(find_program, "nope", "/bin", where) == (
            127,
            "nope: command not found: it is in no directory of PATH",
        )
        assert fails(find_program, "./nope", "/bin", where) == (127, "./nope: no such file or directory")
        assert fails(find_program, "./plain/x", "/bin", where) == (127, "./plain/x: not a directory")
        assert fails(find_program, "", "/bin", where) == (127, "the command is empty: name a program")
        assert fails(find_program, where, "/bin", "/") == (126, f"{where}: is a directory, not a program")
        assert fails(find_program, "./plain", None, where) == (
            126,
            "./plain: permission denied: it is not executable (chmod +x)",
        )
        assert fails(find_program, "plain", where, "/")[0] == 126
        assert fails(find_program, "/dev/null", None, "/") == (126, "/dev/null: is not a regular file")
        assert fails(find_program, "a/\0", None, "/") == (127, "'a/\\x00': no such file or directory")


class TestPrepare:
    def test_elf(self):
        made = prepare(["ls", b"-l"], "/bin", "/")
        assert (made.path, made.argv, made.execfn) == ("/bin/ls", (b"ls", b"-l"), b"/bin/ls")
        assert made.interpreter is not None and made.interpreter.path == made.image.interpreter

    def test_script(self, folder):
        program(folder / "elf")
        script(folder / "one", f"#! {folder}/elf  -a  b \nrest")
        script(folder / "two", "#!./one\n")
        made = prepare(["./two", "x"], None, str(folder))
        assert made.path == f"{folder}/elf" and made.execfn == b"./two"
        assert made.argv == (os.fsencode(f"{folder}/elf"), b"-a  b", b"./one", b"./two", b"x")

    @pytest.mark.parametrize("text", ["", "hello", "echo $1\n\0\1"])
    def test_a_script_that_names_no_interpreter_is_the_shells(self, folder, text):
        script(folder / "x", text)
        made = prepare(["./x", "one"], None, str(folder))
        assert (made.path, made.argv) == ("/bin/sh", (b"/bin/sh", b"./x", b"one"))
        with pytest.raises(LaunchError) as refused:  # as execve has it
            prepare_file(str(folder / "x"), b"x", [b"x"], ())
        assert refused.value.errno == errno.ENOEXEC

    def test_what_lies_under_the_root_is_meant(self, folder):
        root = folder / "root"
        for name in ("bin", "usr/bin"):
            (root / name).mkdir(parents=True)
        program(root / "usr/bin/tool")
        (root / "bin/link").symlink_to("/usr/bin/tool")
        script(root / "bin/script", "#!/bin/link\n")
        made = prepare(["script", "x"], "/none:/bin", "/", str(root))
        assert (made.path, made.argv) == (f"{root}/usr/bin/tool", (b"/bin/link", b"/bin/script", b"x"))
        assert made.execfn == b"/bin/script"
        assert prepare(["true"], "/bin", "/", str(root)).path == "/bin/true"

    def test_too_deep(self, folder):
        program(folder / "s0")
        for n in range(1, 7):
            script(folder / f"s{n}", f"#!./s{n - 1}\n")
        assert prepare(["./s4"], None, str(folder)).argv == (b"./s0", b"./s1", b"./s2", b"./s3", b"./s4")
        assert fails(prepare, ["./s5"], None, str(folder)) == (
            126,
            "./s5: #! lines nest deeper than 4: name a program",
        )

    @pytest.mark.parametrize(
        ("text", "status", "message"),
        [
            (
                "hel\0lo",
                126,
                "./x: not an ELF program or a script with an interpreter line (starts with 0x68656c00)",
            ),
            ("#!/no/such\n", 127, "./x: interpreter /no/such: no such file or directory"),
            ("#!/tmp\n", 126, "./x: interpreter /tmp: is a directory, not a program"),
            ("#! \n", 126, "./x: its #! line names no interpreter"),
            ("#!/" + "a" * 300, 126, "./x: its #! line is longer than 256 bytes"),
        ],
    )
    def test_refusals(self, folder, text, status, message):
        script(folder / "x", text)
        assert fails(prepare, ["./x"], None, str(folder)) == (status, message)

    def test_wrong_machine(self, folder):
        elf(folder / "arm-thing", machine=183)
        (folder / "arm-thing").chmod(0o755)
        assert fails(prepare, ["./arm-thing"], None, str(folder)) == (
            126,
            "./arm-thing: ELF for AArch64; Quire runs x86-64",
        )

    def test_missing_loader(self, folder):
        name = b"/no/ld.so\0"
        load = (1, 5, 0, 0x400000, 0, 0x1000, 0x1000, 0x1000)
        path = elf(folder / "x", [load, (3, 4, 0x800, 0, 0, len(name), len(name), 1)])
        with open(path, "r+b") as file:
            file.seek(0x800)
            file.write(name)
        os.chmod(path, 0o755)
        assert fails(prepare, ["./x"], None, str(folder)) == (
            127,
            "./x: program interpreter /no/ld.so: no such file or directory",
        )

    def test_words(self):
        assert fails(prepare, [], None, "/") == (127, "there is no command: name a program")
        assert fails(prepare, ["ls", "a\0b"], "/bin", "/") == (
            125,
            "an argument contains a NUL byte: no program can receive it",
        )

    def test_error_pickles(self):
        again = pickle.loads(pickle.dumps(LaunchError(126, "x: y")))
        assert (again.status, str(again)) == (126, "x: y")
