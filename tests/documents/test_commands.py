"""Every command in a document is one that exists, and something runs it."""

from __future__ import annotations

import re

import pytest

from tests.documents.reading import ROOT, Command, commands, documents, mentions
from tests.documents.runners import RUNNERS, runner_of
from xhash_ray import __version__
from xhash_ray.cli import COMMON, main, parser, values_of
from xhash_ray.config import build
from xhash_ray.errors import BadOption
from xhash_ray.options import VERBS

SHOWN = [command for path in documents() for command in commands(path)]
MENTIONED = [command for path in documents() for command in mentions(path)]
OURS = [command for command in MENTIONED if command.words[:1] == ["xhash"]]
OTHERS = [command for command in MENTIONED if command not in OURS]
JOB = re.compile(r"jobs/(\w+)\.py")


def names(found: list[Command]) -> list[str]:
    """Names of test cases."""
    return [f"{command.where} {command.text[:40]}" for command in found]


def words_of(command: Command) -> list[str] | None:
    """What the command line gets, None for other programs."""
    words = command.words
    if words[0] in ("xhash", ".venv/bin/xhash"):
        return words[1:]
    job = next((number for number, word in enumerate(words) if JOB.fullmatch(word)), None)
    return None if job is None else [*verb_of(words[job]), *words[job + 1 :]]


def verb_of(job: str) -> list[str]:
    """The verb that a job calls, as the job's own text says."""
    text = (ROOT / job).read_text()
    return re.findall(r'"([a-z ]+)"', re.search(r"main\(\[(.*?)\*sys\.argv", text)[1])


@pytest.mark.parametrize("command", SHOWN, ids=names(SHOWN))
def test_a_command_of_ours_has_options_that_exist(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = words_of(command)
    if words is None or "--version" in words:
        return
    parsed, unknown = parser().parse_known_args(words)
    assert not unknown
    build(VERBS[parsed.verb], values_of(parsed), f"xhash {parsed.verb}")


@pytest.mark.parametrize("command", OURS, ids=names(OURS))
def test_a_command_that_is_mentioned_exists(command):
    verb = longest_verb(command.words[1:])
    flags = {flag for word in command.words for flag in re.findall(r"^--[a-z][a-z-]*", word)}
    known = {f"--{field}".replace("_", "-") for field in getattr(VERBS.get(verb), "__dataclass_fields__", ())}
    assert flags <= known | {"--help", *(f"--{name}" for name in COMMON)}


def longest_verb(words: list[str]) -> str:
    """The verb that words begin with; a group of verbs, or one of several named with bars, counts."""
    first = words[0].split("|")[0]
    pair = " ".join([first, words[1].split("|")[0]]) if len(words) > 1 else first
    found = next((verb for verb in (pair, first) if verb in VERBS), None)
    assert found or any(verb.startswith(f"{first} ") for verb in VERBS) or first == "VERB", f"no verb '{pair}'"
    return found or first


@pytest.mark.parametrize("command", [*SHOWN, *OTHERS], ids=names([*SHOWN, *OTHERS]))
def test_something_runs_it(command):
    assert runner_of(command.text), f"{command.where}: nothing in tests/documents/runners.py runs `{command.text}`"


@pytest.mark.parametrize("runner", RUNNERS, ids=[each.pattern for each in RUNNERS])
def test_runners_exist_and_are_needed(runner):
    if runner.test is not None:
        file, _, name = runner.test.partition("::")
        assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.M), runner.test
    else:
        assert len(runner.why) > 20
    assert any(re.search(runner.pattern, command.text) for command in [*SHOWN, *OTHERS])


def test_an_unknown_flag_in_a_document_would_be_found():
    with pytest.raises(BadOption):
        build(VERBS["train"], {"features": "F", "out": "M", "epochs": "3"}, "xhash train")
    assert parser().parse_known_args(["train", "--features", "F", "--nonsense", "1"])[1] == ["--nonsense", "1"]


def test_the_version_is_said(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out.strip()) == (0, f"xhash-ray {__version__}")
