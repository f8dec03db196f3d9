"""What a local cluster writes down of itself, for other processes to find and end it; and what its head says."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xhash_ray.errors import BadInput
from xhash_ray.runtime.local.network import Network
from xhash_ray.runtime.local.plan import Node, Settings
from xhash_ray.runtime.local.processes import started_at

STATE_FILE = "cluster.json"
ANSWER_S = 10.0


@dataclass(frozen=True)
class State:
    """All facts of a cluster.

    Attributes:
        settings: What all nodes share.
        nodes: By name, the head first; with the process that leads each of them.
        network: Names and addresses of the namespaces, None without them.
    """

    settings: Settings
    nodes: Mapping[str, Node]
    network: Network | None


def write(folder: Path, state: State) -> None:
    """Writes the state file, whole or not at all; only its owner can read it."""
    draft = folder / f"{STATE_FILE}.new"
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(asdict(state), indent=1))
    draft.replace(folder / STATE_FILE)


def read(folder: Path) -> State | None:
    """The state that a folder holds, None where it holds none.

    Raises:
        BadInput: for a file that is not one of ours.
    """
    path = folder / STATE_FILE
    try:
        found = json.loads(path.read_text())
        network = Network(**found["network"]) if found["network"] else None
        nodes = {name: Node(**record) for name, record in found["nodes"].items()}
        return State(Settings(**found["settings"]), nodes, network)
    except FileNotFoundError:
        return None
    except OSError as error:
        do = "Name a folder of yours with --folder"
        raise BadInput(f"local cluster in {folder}", f"no folder that can be read ({error.strerror})", do) from None
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"local cluster's state {path}", f"not readable ({error})", "Remove the file") from None


def living(state: State) -> list[int]:
    """Processes that lead nodes and still run; a number that belongs to another process by now does not count."""
    return [node.pid for node in state.nodes.values() if node.pid and started_at(node.pid) == node.started]


def ask(url: str, auth: str) -> Any:
    """JSON from the dashboard; raises OSError or ValueError where there is none."""
    headers = {"Authorization": f"Bearer {auth_token()}"} if auth == "token" else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=ANSWER_S) as answer:
        return json.loads(answer.read())


def nodes_alive(dashboard: str, auth: str) -> dict[str, str]:
    """Ray's identity of every node that the head believes alive, by the node's name; empty when the head is silent."""
    try:
        listed = ask(f"{dashboard}/api/v0/nodes?limit=1000", auth)["data"]["result"]["result"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {each["node_name"]: each["node_id"] for each in listed if each["state"] == "ALIVE"}


def auth_token() -> str:
    """The token of the person who runs this, from where Ray takes it; "" where there is none."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return path.read_text().strip() if path.exists() else ""
