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

TERMINALS = "tests/runtime/test_terminals.py"
INQUIRIES = "tests/runtime/test_inquiries.py"
JOBS = "tests/runtime/test_commands.py::test_a_job_is_submitted_to_a_real_head"
SERVE_CONFIG = "tests/runtime/test_serve_config.py"
DEPLOYED = f"{SERVE_CONFIG}::test_a_config_file_is_deployed_and_answers_over_http_and_grpc"

DRILL = "tests/runtime/test_drill.py::test_no_answer_is_ever_wrong_and_every_scenario_recovers"
JOINED = "tests/runtime/test_drill.py::test_on_a_cluster_that_was_joined_only_its_own_is_touched"

RUNNERS = (
    Runner(r"^make demo", "tests/runtime/test_commands.py::test_the_demonstration_runs_on_a_ray_of_its_own"),
    Runner(
        r"^make (setup|test|faults|lint)",
        None,
        "runs tests, or is what make test begins with",
    ),
    Runner(r"^make bench", None, "takes an hour; tests/benchmarks and tests/runtime run what it times, scaled down"),
    Runner(r"^python -m tests.features.measure", None, "measures on real data; tests/features checks what it calls"),
    Runner(r"^promtool query", "tests/runtime/test_prometheus.py::test_promtool_queries_what_is_scraped"),
    Runner(r"^promtool check", "tests/dashboards/test_rules.py::test_promtool_accepts_configuration_and_rules"),
    Runner(
        r"^promtool test",
        "tests/dashboards/test_rules.py::test_alerts_fire_after_their_fault_and_resolve_after_the_remedy",
    ),
    Runner(r"^python -m xhash_ray.dashboards write", "tests/dashboards/test_pictures.py::test_dashboards_are_written"),
    Runner(
        r"^python -m xhash_ray.dashboards plot",
        "tests/dashboards/test_pictures.py::test_a_picture_of_a_dashboard_is_drawn",
    ),
    Runner(
        r"^python -m xhash_ray.dashboards check",
        "tests/dashboards/test_pictures.py::test_queries_without_data_are_named",
    ),
    Runner(r"xhash --version", "tests/documents/test_commands.py::test_the_version_is_said"),
    Runner(r"^xhash bench methods", "tests/benchmarks/test_methods.py::test_a_second_run_does_only_what_is_missing"),
    Runner(r"^xhash bench hashing", "tests/benchmarks/test_hashing.py::test_every_method_is_timed"),
    Runner(
        r"^xhash bench (machine|plan)",
        "tests/runtime/test_plan_benchmark.py::test_a_machine_is_measured_and_a_plan_compared_with_it",
    ),
    Runner(r"^xhash plan", "tests/sizing/test_plan.py::test_it_is_a_command"),
    Runner(r"^xhash import", "tests/datasets/test_importing.py::test_the_command"),
    Runner(
        r"^xhash train --features F .*ssah",
        "tests/learning/test_run.py::test_the_best_epoch_is_chosen_and_the_card_says_so",
    ),
    Runner(r"^RAY_ADDRESS=\S+ xhash drill", JOINED),
    Runner(r"^xhash drill", DRILL),
    Runner(r"^xhash exporter", "tests/test_exporter.py::test_it_serves_until_it_is_told_to_end"),
    Runner(
        r"^prometheus ",
        "tests/runtime/test_prometheus.py::test_prometheus_finds_the_cluster_through_rays_service_discovery",
    ),
    Runner(r"^xhash serve   --index", f"{TERMINALS}::test_xhash_serve_ends_with_ctrl_c"),
    Runner(
        r"^ray job submit .*jobs/(extract|encode|build_index)",
        "tests/runtime/test_jobs_on_a_cluster.py::test_every_job_is_killed_in_the_middle_and_given_again",
    ),
    Runner(r"^ray job submit", JOBS),
    Runner(r"^ray job (list|logs)", f"{INQUIRIES}::test_jobs_are_listed_with_what_they_said"),
    Runner(r"^ray (status|list nodes)", f"{INQUIRIES}::test_the_cluster_says_how_it_is"),
    Runner(r"^ray (list actors|logs)", f"{INQUIRIES}::test_what_has_died_is_listed_and_its_log_is_there"),
    Runner(r"^serve status", f"{INQUIRIES}::test_serve_says_how_it_is"),
    Runner(r"^XHASH_INDEX=\S+ serve build", SERVE_CONFIG + "::test_serve_build_writes_a_config_file"),
    Runner(r"^serve deploy", DEPLOYED),
    Runner(r"^serve run", f"{TERMINALS}::test_serve_run_takes_our_builder_with_arguments"),
    Runner(r"^export AWS_", None, "sets a variable; tests/runtime has it for its S3 server"),
    Runner(r"cluster/local.sh", "tests/runtime/test_local_cluster.py::test_the_script_of_the_documents"),
    Runner(r"^python cluster/render.py", "tests/cluster/test_cluster_files.py::test_render_prints_the_file"),
    Runner(r"^ray (up|down|dashboard|attach|get-auth-token)", None, CLOUD),
    Runner(r"^docker", None, ENGINE),
    Runner(r"deploy/compose/", "tests/deploy/test_readme.py::test_compose_is_set_up_by_what_is_said"),
    Runner(r"^python deploy/kubernetes/generate.py", "tests/deploy/test_generated.py::test_made_files_are_up_to_date"),
    Runner(r"^kubectl", None, KUBERNETES),
    Runner(r"^xhash ", DOCUMENTED),
    Runner(r"^curl ", DOCUMENTED),
)


def runner_of(text: str) -> Runner | None:
    """What runs a command: the first that fits."""
    return next((runner for runner in RUNNERS if re.search(runner.pattern, text)), None)
