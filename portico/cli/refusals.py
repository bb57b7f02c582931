"""Refusals: why a gateway over HTTP did not do what was asked, for whoever typed the command: what is wrong, and what to do.

Above: the commands that speak to a running server. Below: the errors of the client.
"""

from __future__ import annotations

from portico.client import ClientError, ConnectionFailed, PorticoAPIError, TimedOut, Unauthenticated
from portico.client.answers import phrase
from portico.errors import CallError


def refusal(error: ClientError, url: str, *, keyed: bool, named: str = "--url") -> CallError:
    """The error as a sentence, with the status of the answer; 0 where there was none.

    `keyed`: whether a key was sent; `named`: where the command is told the address.
    """
    if isinstance(error, TimedOut):
        return CallError(f"{url} did not answer in time.", status=0)
    if isinstance(error, ConnectionFailed):
        return CallError(_no_connection(error, url, named), status=0)
    if isinstance(error, Unauthenticated):
        wrong = "does not know the API key in PORTICO_API_KEY" if keyed else "needs an API key: set PORTICO_API_KEY to it"
        return CallError(f"The gateway at {url} {wrong}.", status=error.status)
    status: int = getattr(error, "status", None) or 0
    if isinstance(error, PorticoAPIError) and error.slug:
        return CallError(error.detail, status=status)
    return CallError(
        f"{url} answered {phrase(status)}, and not as a gateway of this version of Portico does: look at {named}.", status=status
    )


def _no_connection(error: ConnectionFailed, url: str, named: str) -> str:
    if error.sent:
        return f"{url} ended the connection without an answer ({error.reason})."
    if "CERTIFICATE_VERIFY_FAILED" in error.reason:
        return f"The certificate of {url} is not trusted here ({error.reason}). SSL_CERT_FILE can name its authority."
    return f"No gateway answers at {url} ({error.reason}). Start one with `portico serve`, or name its address with {named}."
