"""A site's webhook: a JSON document by POST, with who sent it and its digest; redirects are not followed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import httpx

from integrations.peer import speaking_to
from triage.domain.errors import Misconfigured, Unavailable


@dataclass(frozen=True)
class Webhook:
    """
    Where reports are sent.

    Attributes:
        url: http or https.
        token: sent as a bearer token where there is one.
    """

    url: str = field(repr=False)
    token: str = field(default="", repr=False)
    timeout_s: float = 15.0
    transport: httpx.BaseTransport | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse what is no http(s) address."""
        if not self.url.startswith(("http://", "https://")):
            raise Misconfigured("TRIAGE_AUDIT_WEBHOOK must be an http or https address")

    def send(self, body: str, subject: str) -> None:
        """
        Post *body*; the receiver may tell a repeat by its digest.

        Raises:
            Unavailable: no answer, or none that says it was taken; offered again later.
        """
        sent = body.encode()
        headers = {
            "Content-Type": "application/json",
            "X-Triage-Subject": subject,
            "X-Triage-Sha256": hashlib.sha256(sent).hexdigest(),
            **({"Authorization": f"Bearer {self.token}"} if self.token else {}),
        }
        with (
            speaking_to("webhook", Unavailable),
            httpx.Client(timeout=self.timeout_s, transport=self.transport, follow_redirects=False) as client,
        ):
            answer = client.post(self.url, content=sent, headers=headers)
            if not answer.is_success:
                raise Unavailable(f"webhook: answered {answer.status_code}")
