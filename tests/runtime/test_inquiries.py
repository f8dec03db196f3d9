"""What the runbooks ask Ray: every command of theirs answers, and with what they say it shows."""

from __future__ import annotations

import pytest
import ray
from click.testing import CliRunner
from ray.job_submission import JobSubmissionClient

from tests.runtime.conftest import Head
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def job(head: Head, ray_cluster: None) -> str:
    """A job that has failed, and said why."""
    client = JobSubmissionClient(head.dashboard)
    number = client.submit_job(entrypoint="echo no such bucket; exit 3")
    wait_until(lambda: client.get_job_status(number).is_terminal())
    return number


@ray.remote(num_cpus=0)
class Speaker:
    """An actor with something in its log."""

    def speak(self) -> str:
        print("it has been said", flush=True)
        return ray.get_runtime_context().get_actor_id()


@pytest.fixture(scope="module")
def dead_actor(ray_cluster: None) -> str:
    """The id of an actor that was killed."""
    speaker = Speaker.options(name="xhash-speaker").remote()
    number = ray.get(speaker.speak.remote())
    ray.kill(speaker)
    return number


def asked(head: Head, *words: str) -> str:
    """What a command of Ray's or of Serve's prints; it must succeed."""
    from ray.scripts.scripts import cli as ray_cli
    from ray.serve.scripts import cli as serve_cli

    commands = {"ray": ray_cli, "serve": serve_cli}
    done = CliRunner().invoke(commands[words[0]], list(words[1:]), env={"RAY_API_SERVER_ADDRESS": head.dashboard})
    assert done.exit_code == 0, done.output
    return str(done.output)


def test_the_cluster_says_how_it_is(head):
    wait_until(lambda: "Resources" in asked(head, "ray", "status"))
    assert "ALIVE" in asked(head, "ray", "list", "nodes")


def test_what_has_died_is_listed_and_its_log_is_there(head, dead_actor):
    wait_until(lambda: dead_actor in asked(head, "ray", "list", "actors", "--filter", "state=DEAD", "--limit", "1000"))
    wait_until(lambda: "it has been said" in asked(head, "ray", "logs", "actor", "--id", dead_actor))


def test_jobs_are_listed_with_what_they_said(head, job):
    assert job in asked(head, "ray", "job", "list")
    assert "no such bucket" in asked(head, "ray", "job", "logs", job)


def test_serve_says_how_it_is(head, own_serve):
    # Serve reads RAY_DASHBOARD_ADDRESS, but as it is imported
    assert "applications" in asked(head, "serve", "status", "--address", head.dashboard)
