"""What runs each command that a document shows: a test, or, where that is not possible here, the reason."""

from __future__ import annotations

import re
from typing import NamedTuple


class Runner(NamedTuple):
    """What keeps some commands true.

    Attributes:
        pattern: Of the commands, a regular expression that is searched in them.
        test: `file::function` that runs them, None where nothing can.
        why: Then the reason.
    """

    pattern: str
    test: str | None
    why: str = ""


DOCUMENTED = "tests/runtime/test_documents.py::test_the_guides_commands_do_what_the_guide_says"
CLOUD = "needs an account with a cloud; the files are checked against Ray's schema in tests/cluster"
KUBERNETES = "needs a Kubernetes cluster; the manifests are validated offline in tests/deploy"
ENGINE = "needs a container engine; the files are linted and their steps checked in tests/deploy"

JOBS = "tests/runtime/test_commands.py::test_a_job_is_submitted_to_a_real_head"
SERVE_CONFIG = "tests/runtime/test_serve_config.py"
DEPLOYED = f"{SERVE_CONFIG}::test_a_config_file_is_deployed_and_answers_over_http_and_grpc"

RUNNERS = (
    Runner(r"^make demo", "tests/runtime/test_commands.py::test_the_demonstration_runs_on_a_ray_of_its_own"),
    Runner(r"^make setup", None, "make test begins with it"),
    Runner(r"xhash --version", "tests/runtime/test_commands.py::test_the_version_is_said"),
    Runner(r"^xhash bench methods", "tests/benchmarks/test_methods.py::test_the_zoo_is_measured"),
    Runner(r"^xhash import", "tests/datasets/test_importing.py::test_import"),
    Runner(r"^xhash train --features F .*ssah", "tests/learning/test_run.py::test_run"),
    Runner(r"^xhash drill", "tests/runtime/test_drill.py::test_drill"),
    Runner(r"^xhash exporter", "tests/test_exporter.py::test_exporter"),
    Runner(
        r"^prometheus ",
        "tests/runtime/test_prometheus.py::test_prometheus_finds_the_cluster_through_rays_service_discovery",
    ),
    Runner(r"^promtool check", "tests/dashboards/test_rules.py::test_promtool_accepts_configuration_and_rules"),
    Runner(
        r"^promtool test",
        "tests/dashboards/test_rules.py::test_alerts_fire_after_their_fault_and_resolve_after_the_remedy",
    ),
    Runner(r"^python -m xhash_ray.dashboards plot", "tests/runtime/test_prometheus.py::test_pictures_are_drawn"),
    Runner(r"^python -m xhash_ray.dashboards check", "tests/runtime/test_prometheus.py::test_no_panel_is_without_data"),
    Runner(r"^python -m xhash_ray.dashboards write", "tests/dashboards/test_pictures.py::test_dashboards_are_written"),
    Runner(r"^xhash serve   --index", DEPLOYED),
    Runner(r"^ray job submit", JOBS),
    Runner(r"^serve build", SERVE_CONFIG + "::test_serve_build_writes_a_config_file"),
    Runner(r"^(XHASH_INDEX=\S+ )?serve ", DEPLOYED),
    Runner(r"^cluster/local.sh", "tests/runtime/test_local_cluster.py::test_the_script_of_the_documents"),
    Runner(r"^python cluster/render.py", "tests/cluster/test_cluster_files.py::test_render_prints_the_file"),
    Runner(r"^ray get-auth-token", "tests/runtime/test_local_cluster.py::test_the_script_of_the_documents"),
    Runner(r"^ray (up|dashboard)", None, CLOUD),
    Runner(r"^docker ", None, ENGINE),
    Runner(r"^kubectl", None, KUBERNETES),
    Runner(r"^xhash ", DOCUMENTED),
    Runner(r"^curl ", DOCUMENTED),
)


def runner_of(text: str) -> Runner | None:
    """What runs a command: the first that fits."""
    return next((runner for runner in RUNNERS if re.search(runner.pattern, text)), None)
