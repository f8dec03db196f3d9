"""What a drill rehearses: every scenario, what it needs, and where it may be run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from xhash_ray.errors import BadOption, nearest

LOCAL, REDIS, STORE, NETWORK, FAKETIME = "local", "redis", "store", "network", "faketime"
ALL = "all"


@dataclass(frozen=True)
class Scenario:
    """A rehearsal.

    Attributes:
        name: On the command line.
        title: In the table.
        does: What is done to the cluster, in a sentence.
        needs: What must be there: of LOCAL (a cluster of the drill's own), REDIS, STORE (an S3 store that can be
            stopped), NETWORK (namespaces), FAKETIME.
        destructive: Whether it makes an endpoint refuse or lack shards, so that an alert may wake somebody.
    """

    name: str
    title: str
    does: str
    needs: tuple[str, ...] = ()
    destructive: bool = False


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("replica-killed", "replica killed", "SIGKILL to one of the two copies of a group of shards"),
    Scenario(
        "shard-gone", "shard without replicas", "SIGKILL to all copies of a group of shards at once", destructive=True
    ),
    Scenario(
        "node-killed", "node killed", "SIGKILL to all processes of a worker node, which then comes back", (LOCAL,)
    ),
    Scenario(
        "head-restarted",
        "head killed and restarted",
        "SIGKILL to the head (GCS, dashboard, Serve's controller), which comes back with its state from Redis",
        (LOCAL, REDIS),
    ),
    Scenario("encoder-gone", "encoder gone", "SIGKILL to all copies of the query encoder at once", destructive=True),
    Scenario(
        "store-gone-in-swap",
        "S3 gone during a swap",
        "the store accepts and never answers while a new generation is activated",
        (LOCAL, STORE),
    ),
    Scenario(
        "corrupt-file",
        "corrupt shard file",
        "one bit of a segment of the next generation is flipped: it must be refused, the old one must stay",
    ),
    Scenario(
        "swaps",
        "swaps under load",
        "pairs added, replaced, deleted, another model and a rollback, each activated as soon as the last one is",
    ),
    Scenario("slow-network", "slow network", "every packet of a worker node is late, some are lost", (LOCAL, NETWORK)),
    Scenario("node-cut-off", "node cut off", "a worker node is unplugged: its processes live", (LOCAL, NETWORK)),
    Scenario(
        "clock-skew",
        "clock skew",
        "a worker node's wall clock is five minutes ahead, while generations are activated through all gateways",
        (LOCAL, FAKETIME),
    ),
)
BY_NAME: Mapping[str, Scenario] = {scenario.name: scenario for scenario in SCENARIOS}


def chosen(names: Collection[str]) -> list[Scenario]:
    """Scenarios by name, in the drill's own order.

    Raises:
        BadOption: for an unknown name, or none.
    """
    if not names:
        raise BadOption("xhash drill", "no scenario", f"Name some, or all. Known: {', '.join(BY_NAME)}")
    for name in names:
        if name not in BY_NAME and name != ALL:
            raise BadOption("--scenario", f"unknown scenario '{name}'", nearest(name, [ALL, *BY_NAME]))
    return [scenario for scenario in SCENARIOS if ALL in names or scenario.name in names]


def hindrance(scenario: Scenario, lacking: Mapping[str, str], joined: bool, destructive: bool) -> str:
    """Why a scenario cannot be run here, "" where it can.

    Args:
        scenario: To be run.
        lacking: Of the things that scenarios need: what is not there, and why.
        joined: Whether the cluster is somebody else's.
        destructive: Whether what may wake somebody was asked for.
    """
    reasons = [lacking[need] for need in scenario.needs if need in lacking]
    if reasons:
        return reasons[0]
    if joined and scenario.destructive and not destructive:
        return "would raise alerts on a cluster that was joined: ask for it with --destructive"
    return ""


def needed(scenarios: Sequence[Scenario]) -> set[str]:
    """Everything that some scenarios need."""
    return {need for scenario in scenarios for need in scenario.needs}
