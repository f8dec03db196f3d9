"""The command: pictures of what a Prometheus answers, queries without data, and what goes wrong said in a line."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from xhash_ray.dashboards.__main__ import main
from xhash_ray.dashboards.layout import DASHBOARDS
from xhash_ray.dashboards.panels import Query
from xhash_ray.dashboards.plotting import readable
from xhash_ray.dashboards.prometheus import Prometheus, Series, name_of, plain
from xhash_ray.errors import BadInput, Unreachable


class Stub(BaseHTTPRequestHandler):
    """Answers range queries with a rising line, or with what the server's `answer` makes of a query."""

    def do_GET(self) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        status, content = self.server.answer(asked)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def rising(asked: dict[str, str]) -> tuple[int, bytes]:
    """Two buckets for a heatmap, one line for everything else, nothing for one metric."""
    if "xhash_cache_disk_free_ratio" in asked["query"]:
        return 200, b'{"status": "success", "data": {"result": []}}'
    start_s = float(asked["start"])
    values = [[start_s + 10 * step, str(step)] for step in range(5)] + [[start_s + 60, "NaN"]]
    buckets = [{"le": "0.1"}, {"le": "+Inf"}] if "by (le)" in asked["query"] else [{}]
    result = [{"metric": labels, "values": values} for labels in buckets]
    return 200, json.dumps({"status": "success", "data": {"result": result}}).encode()


@pytest.fixture
def stub():
    """A server, and its URL; `answer` can be set."""
    server = HTTPServer(("127.0.0.1", 0), Stub)
    server.answer = rising
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()


def test_a_picture_of_a_dashboard_is_drawn(stub, tmp_path, capsys):
    """Of the one that has every kind of panel, and one without data; tests with a real Prometheus draw all."""
    assert main(["plot", str(tmp_path / "new"), "--prometheus", stub.url, "--only", "xhash-serving"]) == 0
    (drawn,) = (tmp_path / "new").iterdir()
    assert drawn.name == "xhash-serving.png"
    assert drawn.read_bytes().startswith(b"\x89PNG")
    assert drawn.stat().st_size > 50_000
    assert "xhash-serving.png" in capsys.readouterr().out


def test_queries_without_data_are_named(stub, capsys):
    assert main(["check", "--prometheus", stub.url]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("xhash-serving: Free share of the cache's disk: min by (node)")


def test_what_goes_wrong_is_said_in_a_line(stub, tmp_path, capsys):
    assert main(["check", "--prometheus", "http://127.0.0.1:1"]) == 1
    assert re.fullmatch(r"Prometheus at http://127.0.0.1:1: .*refused.*--prometheus.*\n", capsys.readouterr().err)
    stub.answer = lambda asked: (404, b"<html>not found</html>")
    assert main(["plot", str(tmp_path), "--prometheus", stub.url]) == 1
    assert "status 404, and no answer of a Prometheus" in capsys.readouterr().err
    stub.answer = lambda asked: (200, b'["no", "object"]')
    assert main(["check", "--prometheus", stub.url]) == 1
    assert "no answer of a Prometheus" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["write", str(tmp_path / "file" / "x")]) == 2
    assert "Name a folder that can be written" in capsys.readouterr().err
    assert main(["check", "--prometheus", "nonsense"]) == 1
    assert "Prometheus at nonsense" in capsys.readouterr().err


def test_a_query_that_prometheus_refuses_is_said(stub):
    stub.answer = lambda asked: (400, b'{"status": "error", "errorType": "bad_data", "error": "parse error: x"}')
    with pytest.raises(BadInput, match="parse error: x"):
        Prometheus(stub.url).value("sum(")
    with pytest.raises(Unreachable):
        Prometheus("http://127.0.0.1:1").value("up")


def test_values_that_are_none_are_left_out(stub):
    (line,) = Prometheus(stub.url).lines("up", 0, 100, 10)
    assert (line.times, line.values) == ([0, 10, 20, 30, 40], [0, 1, 2, 3, 4])


def test_dashboards_are_written(tmp_path):
    assert main(["write", str(tmp_path)]) == 0
    assert {file.stem for file in tmp_path.iterdir()} == {each.uid for each in DASHBOARDS}


def test_variables_are_replaced():
    query = Query('rate(x_total{verb=~"$verb", method=~"$method"}[$__rate_interval])', "")
    assert plain(query, "5m") == 'rate(x_total{verb=~".*", method=~".*"}[5m])'


def test_lines_are_named_by_their_labels():
    line = Series({"verb": "extract", "step": "read"}, [], [])
    assert name_of(line, "{{verb}} {{step}}") == "extract read"
    assert name_of(line, "{{gone}}") == "value"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0025, "s", "2.5 ms"), (0, "s", "0 s"), (90, "s", "1.5 min"), (0.00005, "s", "50 µs"), (-7200, "s", "-2 h"),
        (1536, "bytes", "1.5 kB"), (3 * 1024**3, "binBps", "3 GB/s"), (12_000, "short", "12k"), (7, "short", "7"),
        (0.25, "percentunit", "25%"), (33.3, "percent", "33.3%"), (1e24, "short", "1e+09P"),
    ],
)  # fmt: skip
def test_values_are_readable(value, unit, text):
    assert readable(value, unit) == text
