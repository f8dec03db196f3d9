"""`xhash VERB`: flags from each verb's options, one function per verb, one line per error.

Exit code 0 when done, 1 when a run failed, 2 for bad usage or bad input. With --json the last line of standard
output is one JSON object; progress goes to standard error.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from xhash_ray import __version__, reports
from xhash_ray.config import build, expand, help_of, is_required, override, read_recipe
from xhash_ray.errors import BadInput, BadOption, XhashError, nearest
from xhash_ray.exposition import exposed
from xhash_ray.options import VERBS

FUNCTIONS = {
    "corpus demo": "xhash_ray.runtime.corpus:make_demo_corpus",
    "pretrain": "xhash_ray.runtime.pretraining:pretrain_clip",
    "extract": "xhash_ray.runtime.extraction:extract",
    "import": "xhash_ray.datasets.importing:import_features",
    "train": "xhash_ray.runtime.training:train",
    "methods": "xhash_ray.catalogue:list_methods",
    "methods show": "xhash_ray.catalogue:show_method",
    "metrics": "xhash_ray.metrics:list_metrics",
    "encode": "xhash_ray.runtime.encoding:encode",
    "verify": "xhash_ray.runtime.verifying:verify",
    "index build": "xhash_ray.runtime.indexing:build_index",
    "index add": "xhash_ray.index.life:add",
    "index upsert": "xhash_ray.index.life:upsert",
    "index delete": "xhash_ray.index.life:delete",
    "index compact": "xhash_ray.index.life:compact",
    "index rollback": "xhash_ray.index.life:rollback",
    "index info": "xhash_ray.index.life:info",
    "index verify": "xhash_ray.index.verify:verify",
    "index export": "xhash_ray.index.export:export",
    "index copy": "xhash_ray.index.copying:copy",
    "evaluate": "xhash_ray.runtime.evaluation:evaluate",
    "serve": "xhash_ray.runtime.endpoint:serve_until_stopped",
    "exporter": "xhash_ray.exporter:export",
    "query": "xhash_ray.asking:ask",
    "plan": "xhash_ray.sizing.plan:plan",
    "bench hamming": "xhash_ray.benchmarks.hamming:bench_hamming",
    "bench billion": "xhash_ray.benchmarks.billion:bench_billion",
    "bench serve": "xhash_ray.runtime.serve_benchmark:bench_serve",
    "bench extract": "xhash_ray.runtime.extract_benchmark:bench_extract",
    "bench encode": "xhash_ray.runtime.encode_benchmark:bench_encode",
    "bench evaluation": "xhash_ray.benchmarks.evaluation:bench_evaluation",
    "bench methods": "xhash_ray.benchmarks.methods:bench_methods",
    "bench training": "xhash_ray.runtime.benchmark:bench_training",
    "bench hashing": "xhash_ray.benchmarks.hashing:bench_hashing",
    "bench jdsh": "xhash_ray.benchmarks.jdsh:bench_jdsh",
    "bench machine": "xhash_ray.runtime.machine_benchmark:bench_machine",
    "bench plan": "xhash_ray.runtime.plan_benchmark:bench_plan",
    "bench rescoring": "xhash_ray.benchmarks.rescoring:bench_rescoring",
    "drill": "xhash_ray.runtime.drill.run:drill",
    "demo": "xhash_ray.runtime.demo:demo",
}
COMMON = ("config", "set", "json", "endpoint-url", "metrics-file", "push-gateway")
GROUPS = {
    "corpus": "make corpora",
    "index": "build, change and check indexes",
    "bench": "measure beside others",
    "methods": "the hashing methods that can be trained",
}


class Parser(argparse.ArgumentParser):
    """argparse with errors in one line, and flags spelt out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Exit code 2 and where to read on."""
        raise BadInput(self.prog, message, f"See `{self.prog} --help`")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a verb and returns its exit code."""
    logging.basicConfig(level=logging.ERROR)  # libraries' remarks stay out of the way of our own lines
    try:
        parsed, unknown = parser().parse_known_args(arguments)
        if unknown:
            raise unknown_flag(parsed.verb, unknown[0])
        result = run(parsed)
    except XhashError as error:
        line = str(error)
        print(line if line.startswith("xhash") else f"xhash: {line}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("xhash: interrupted", file=sys.stderr)
        return 1
    try:
        show(parsed, result)
    except BrokenPipeError:  # the reader has left (`| head`); what is buffered must not be tried again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def show(parsed: argparse.Namespace, result: dict[str, Any]) -> None:
    """Prints a finished verb's result: for people, as JSON, or (the demonstration) both."""
    if not parsed.json or parsed.verb == "demo":
        print(reports.render(parsed.verb, result), flush=True)
    if parsed.json or parsed.verb == "demo":
        print(json.dumps(result), flush=True)


def unknown_flag(verb: str, flag: str) -> BadOption:
    """The error for a flag that a verb does not have."""
    known = [field.name.replace("_", "-") for field in dataclasses.fields(VERBS[verb])]
    hint = nearest(flag.lstrip("-").partition("=")[0], [*known, *COMMON])
    return BadOption(f"xhash {verb}", f"unknown option '{flag}'", hint)


def parser() -> Parser:
    """The command line, made from the options of every verb."""
    top = Parser(prog="xhash", description="Cross-modal hashing on Ray: codes of 8 to 16 bytes, searched exactly.")
    top.add_argument("--version", action="version", version=f"xhash-ray {__version__}")
    verbs = top.add_subparsers(metavar="VERB", required=True)
    parsers = {name: verbs.add_parser(name, help=text, description=text) for name, text in GROUPS.items()}
    groups = {name: it.add_subparsers(metavar="VERB", required=name not in VERBS) for name, it in parsers.items()}
    for verb, options in VERBS.items():
        group, _, name = verb.rpartition(" ")
        summary = (options.__doc__ or "").split(": ", 1)[-1].rstrip(".")
        if verb not in GROUPS:  # a group that is a verb too does something without a further word
            parsers[verb] = (groups[group] if group else verbs).add_parser(name, help=summary, description=summary)
        add_flags(parsers[verb], verb, options)
    return top


def add_flags(verb_parser: argparse.ArgumentParser, verb: str, options: type[Any]) -> None:
    """A flag per field of the verb's options, and those that every verb has."""
    for field in dataclasses.fields(options):
        flags = [f"--{field.name.replace('_', '-')}"]
        if len(field.name) == 1:
            flags.insert(0, f"-{field.name}")
        required = " (required)" if is_required(field) else ""
        if field.metadata.get("positional"):
            verb_parser.add_argument(field.name, metavar=field.name.upper(), help=help_of(field))
        elif field.type == "bool":
            verb_parser.add_argument(*flags, action=argparse.BooleanOptionalAction, default=None, help=help_of(field))
        else:
            default = "" if required or field.default in (None, dataclasses.MISSING) else f" (default: {field.default})"
            text = help_of(field).replace("%", "%%") + (required or default).replace("%", "%%")
            verb_parser.add_argument(*flags, metavar=field.name.upper(), help=text)
    common = verb_parser.add_argument_group("every verb")
    common.add_argument(
        "--config", metavar="TOML", help=f"recipe; its table [{verb.replace(' ', '-')}] gives the options"
    )
    common.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="override one option")
    common.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    common.add_argument("--endpoint-url", metavar="URL", help="S3-compatible server (AWS_ENDPOINT_URL)")
    common.add_argument("--metrics-file", metavar="PATH", help="write Prometheus metrics of the run as a text file")
    common.add_argument("--push-gateway", metavar="URL", help="push them to a Prometheus Pushgateway, live")
    verb_parser.set_defaults(verb=verb)


def run(parsed: argparse.Namespace) -> dict[str, Any]:
    """Builds the options of the chosen verb and calls its function."""
    if parsed.endpoint_url:
        os.environ["AWS_ENDPOINT_URL"] = parsed.endpoint_url
    options = build(VERBS[parsed.verb], values_of(parsed), f"xhash {parsed.verb}")
    # Ray Serve's fast paths (fewer threads and hops) are decided when it is imported; a joined cluster has its own.
    os.environ.setdefault("RAY_SERVE_THROUGHPUT_OPTIMIZED", "1")
    module, _, function = FUNCTIONS[parsed.verb].partition(":")
    with exposed(parsed.verb, parsed.metrics_file, parsed.push_gateway) as stage:
        result: dict[str, Any] = getattr(importlib.import_module(module), function)(options)
        stage.result = result
    return result


def values_of(parsed: argparse.Namespace) -> dict[str, Any]:
    """Recipe, then --set, then flags."""
    tables = [verb.replace(" ", "-") for verb in VERBS]
    recipe = read_recipe(parsed.config, parsed.verb.replace(" ", "-"), tables) if parsed.config else {}
    values = override(recipe, parsed.set)
    for field in dataclasses.fields(VERBS[parsed.verb]):
        given = getattr(parsed, field.name)
        if given is not None:
            values[field.name] = given
        elif field.name not in values and isinstance(field.default, str):
            values[field.name] = expand(field.default)
    return values


if __name__ == "__main__":
    sys.exit(main())
