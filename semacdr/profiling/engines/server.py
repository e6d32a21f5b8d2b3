"""HTTP to an OpenAI-compatible server: JSON out, JSON back, with patience.

What passes (429, 5xx, timeouts, broken connections) is tried again after growing, jittered pauses. The key comes from
the environment and goes to the named server alone: into one header, never into a message, and never along a redirect.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import os
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from semacdr.errors import InputError, SemacdrError

KEY_VARIABLE = "OPENAI_API_KEY"
URL_VARIABLE = "OPENAI_BASE_URL"
RETRIES = 6
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0  # also of a Retry-After: a server that wants more time than that gets the next run
START_RETRIES = 3
START_TIMEOUT_S = 30.0
_PASSES = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_ANSWER_BYTES = 64 * 2**20


class RequestRefusedError(Exception):
    """The server answers, but not to this request."""

    def __init__(self, status: int, reason: str) -> None:
        self.status, self.reason = status, reason
        super().__init__(f"HTTP {status}: {reason}")


class GaveUpError(Exception):
    """All tries of one request failed in ways that pass; the message is the last failure."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """A redirect would carry the key to another server: it is an error instead."""
        return None


class Server:
    """One server and the key for it.

    Raises:
        InputError: no address, one with credentials or a query in it, or a key that cannot be sent.
    """

    def __init__(self, base_url: str | None, timeout_s: float = 600.0, first_pause_s: float = FIRST_PAUSE_S) -> None:
        chosen = base_url or os.environ.get(URL_VARIABLE)
        if not chosen:
            raise InputError(
                "the openai engine needs a server", fix=f"--base-url http://HOST:PORT/v1, or {URL_VARIABLE}"
            )
        self.url = _checked(chosen)
        self.timeout_s, self.first_pause_s = timeout_s, first_pause_s
        self._key = os.environ.get(KEY_VARIABLE, "").strip()  # a mounted secret often ends in a line end
        if not all(" " < letter < "\x7f" for letter in self._key):
            raise InputError(f"the key in {KEY_VARIABLE} holds characters that no key has", fix="set it again")
        self._opener = urllib.request.build_opener(_NoRedirect())

    def get(self, path: str) -> Any:
        """What a GET gives, for which there is less patience; see :meth:`ask`."""
        return self._insist(path, None, threading.Event(), min(self.timeout_s, START_TIMEOUT_S), START_RETRIES)

    def ask(self, path: str, body: Any, gone: threading.Event) -> Any:
        """The JSON that comes back, after as many tries as it takes.

        Args:
            path: below the base address.
            body: posted as JSON.
            gone: when it is set, nobody wants the answer any more, and no further try is made.

        Raises:
            RequestRefusedError: the server has something against this request.
            GaveUpError: it did not answer, or said every time that it cannot now.
            SemacdrError: it does not accept the key.
        """
        return self._insist(path, json.dumps(body).encode(), gone, self.timeout_s, RETRIES)

    def _insist(self, path: str, content: bytes | None, gone: threading.Event, timeout_s: float, retries: int) -> Any:
        for attempt in range(retries + 1):
            wait = None
            try:
                return self._once(path, content, timeout_s)
            except urllib.error.HTTPError as error:
                with error:
                    reason = self._reason(error)
                if error.code in (401, 403):
                    raise self._key_refused(error.code) from None
                if error.code not in _PASSES:
                    raise RequestRefusedError(error.code, reason) from None
                failure, wait = f"HTTP {error.code}: {reason}", _retry_after(error.headers.get("Retry-After"))
            except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: half an answer
                failure = self._hidden(f"{type(error).__name__}: {getattr(error, 'reason', None) or error}")
            if attempt == retries or gone.is_set():
                break
            pause = min(self.first_pause_s * 2**attempt, LONGEST_PAUSE_S)
            pause = pause * random.uniform(0.5, 1.0) if wait is None else wait * random.uniform(1.0, 1.1)
            gone.wait(pause)
        raise GaveUpError(failure)

    def _once(self, path: str, content: bytes | None, timeout_s: float) -> Any:
        request = urllib.request.Request(self.url + path, data=content, headers={"Content-Type": "application/json"})
        if self._key:
            # unredirected headers are not passed on, whatever handles the request
            request.add_unredirected_header("Authorization", f"Bearer {self._key}")
        with self._opener.open(request, timeout=timeout_s) as response:
            return json.loads(response.read(_ANSWER_BYTES))

    def _key_refused(self, status: int) -> SemacdrError:
        have = "the key in" if self._key else "a request without a key; set"
        return SemacdrError(f"the server does not accept {have} {KEY_VARIABLE} (HTTP {status})", where=self.url)

    def _reason(self, error: urllib.error.HTTPError) -> str:
        """The server's own words, in one line, without the key should it repeat it."""
        try:
            text = error.read(4096).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            text = ""
        try:
            said = json.loads(text)
            said = said.get("error", said)
            text = str(said.get("message", text)) if isinstance(said, dict) else str(said)
        except (ValueError, AttributeError):
            pass
        return self._hidden(" ".join(text.split()))[:200] or error.reason

    def _hidden(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _checked(url: str) -> str:
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        raise InputError("the address of the server is not a URL", fix="for example http://127.0.0.1:8000/v1") from None
    if parts.username or parts.password or parts.query or parts.fragment:  # what might be secret is not repeated
        raise InputError(
            "the address of the server holds credentials or a query",
            fix=f"the address alone; a key goes into {KEY_VARIABLE}",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"{url!r} is not an http(s) address", fix="for example http://127.0.0.1:8000/v1")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def _retry_after(value: str | None) -> float | None:
    """Seconds that the server asks for, given as a number or a date."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return min(max(seconds, 0.0), LONGEST_PAUSE_S)
