"""The execution of tutorials: files, changes, commands and their outputs."""

import os
from pathlib import Path

import pytest

from tests.tutorials import Change, Command, File, matches, open_shell, run_page, steps_of

PAGE = """
```python
# a/b.txt
one
two
```

```python
explains = True
```

```diff
# a/b.txt
@@
 one
-two
+three
```

```console
$ cat a/b.txt
one
th…
$ export PORT=8000 \\
  OTHER=1
$ sleep 1000 &
$ printf "$PORT\\nb"
8000
b
```
"""


def test_the_steps_of_a_page_are_in_order() -> None:
    assert list(steps_of(PAGE)) == [
        File("a/b.txt", "one\ntwo\n"),
        Change("a/b.txt", [" one\n-two\n+three\n"]),
        Command("cat a/b.txt", "one\nth…\n"),
        Command("export PORT=8000 \\\n  OTHER=1", ""),
        Command("sleep 1000 &", ""),
        Command('printf "$PORT\\nb"', "8000\nb\n"),
    ]


def test_a_page_is_executed_in_one_shell(tmp_path: Path) -> None:
    with open_shell(tmp_path, os.environ) as shell:
        run_page(PAGE, shell, {"8000": "1234"})
    assert (tmp_path / "a/b.txt").read_text() == "one\nthree\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("th…", "tw…", "The page has:\none\ntw…"),
        ("-two", "-four", "has these lines 0 times"),
        ("$ sleep 1000 &", "$ exit 3", "The shell ended: "),
    ],
)
def test_a_page_that_does_not_hold_is_reported(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message), open_shell(tmp_path, os.environ) as shell:
        run_page(PAGE.replace(old, new), shell, {})


def test_a_reading_command_is_repeated_until_its_output_is_that_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "later").write_text("")
    page = f"```console\n$ (sleep 0.5; echo done > later) &\n$ curl -s file://{tmp_path}/later\ndone\n```\n"
    with open_shell(tmp_path, os.environ) as shell:
        run_page(page, shell, {})


@pytest.mark.parametrize(
    ("output", "expected", "agree"),
    [
        ("a  \n\nb\n", "a\nb\n", True),
        ("a\nx\ny\nb\n", "a\n…\nb\n", True),
        ("a 1.5 b", "a … b", True),
        ("a", "", False),
        ("a\nb", "a\n", False),
        ("a+b", "a.b", False),
    ],
)
def test_an_output_matches_that_of_the_page(output: str, expected: str, *, agree: bool) -> None:
    assert matches(output, expected) is agree
