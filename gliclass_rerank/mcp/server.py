"""Server process: over stdin and stdout, or streamable HTTP on this machine."""

from __future__ import annotations

import os
import signal
from inspect import getdoc
from types import FrameType
from typing import Final

from mcp.server import MCPServer
from mcp_types import ToolAnnotations

from gliclass_rerank._version import __version__
from gliclass_rerank.classifier import ZeroShotClassifier
from gliclass_rerank.mcp.tools import Tools
from gliclass_rerank.reranker import Reranker

_INSTRUCTIONS: Final = (
    "A small local model that scores texts. Call `rerank` on search results before reading them, `choose_tools` when "
    "there are many tools, and `classify` to sort texts by labels. Nothing leaves this machine."
)
_READS_ONLY: Final = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)


def build_server(reranker: Reranker, classifier: ZeroShotClassifier) -> MCPServer[None]:
    """Build a server with all tools.

    Args:
        reranker: Loaded reranker.
        classifier: Loaded classifier.

    Returns:
        The server, not running.
    """
    server: MCPServer[None] = MCPServer(
        "gliclass-rerank", version=__version__, instructions=_INSTRUCTIONS, log_level="WARNING"
    )
    tools = Tools(reranker, classifier)
    for tool in (tools.rerank, tools.classify, tools.choose_tools):
        server.add_tool(tool, description=getdoc(tool), annotations=_READS_ONLY)
    return server


def run(server: MCPServer[None], http_port: int | None = None) -> None:
    """Serve until the client leaves.

    Args:
        server: Server.
        http_port: Port of this machine for streamable HTTP at `/mcp`; None for stdin and stdout, where the protocol has
            stdout for itself: what else is printed goes to stderr.
    """
    if http_port is None:
        signal.signal(signal.SIGINT, _end_at_once)
        server.run("stdio")
    else:
        server.run("streamable-http", port=http_port, stateless_http=True, json_response=True)


def _end_at_once(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 # Python's signature
    """End without waiting for the thread that reads stdin, which only its client can wake; nothing is left to write."""
    os._exit(128 + number)
