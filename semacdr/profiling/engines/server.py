"""HTTP to an OpenAI-compatible server: JSON out, JSON back, with patience.

What passes (429, 5xx, timeouts, broken connections) is tried again after growing, jittered pauses, but not for so
long that whoever waits takes the silence for a hang: a request ends before that, answered or given up. The key comes
from the environment and goes to the named server alone: into one header, never into a message, and never along a
redirect.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import math
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
START_RETRIES = 3
START_TIMEOUT_S = 30.0
# Shares of the silence that is borne; the last try and the look whether the server is there end after 7/8 of it.
_TRY = 1 / 4
_LAST_TRY = 1 / 2  # begins by then; pauses, and what a Retry-After asks for, are cut to that
_LOOK = 1 / 8
_PASSES = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_ANSWER_BYTES = 64 * 2**20
_PART_BYTES = 2**16


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

    Args:
        base_url: its address; from the environment where it is None.
        silence_s: something comes of every request within so many seconds, an answer or the reason why there is none.
        first_pause_s: before the second try; later pauses are longer.

    Raises:
        InputError: no address, one with credentials or a query in it, or a key that cannot be sent.
    """

    def __init__(self, base_url: str | None, silence_s: float = 600.0, first_pause_s: float | None = None) -> None:
        chosen = base_url or os.environ.get(URL_VARIABLE)
        if not chosen:
            raise InputError(
                "the openai engine needs a server", fix=f"--base-url http://HOST:PORT/v1, or {URL_VARIABLE}"
            )
        self.url = _checked(chosen)
        self.silence_s = silence_s
        self.first_pause_s = FIRST_PAUSE_S if first_pause_s is None else first_pause_s
        self._key = os.environ.get(KEY_VARIABLE, "").strip()  # a mounted secret often ends in a line end
        if not all(" " < letter < "\x7f" for letter in self._key):
            raise InputError(f"the key in {KEY_VARIABLE} holds characters that no key has", fix="set it again")
        self._opener = urllib.request.build_opener(_NoRedirect())

    def get(self, path: str) -> Any:
        """What a GET gives, for which there is less patience; see :meth:`ask`."""
        try_s = min(self.silence_s * _TRY, START_TIMEOUT_S)
        return self._insist(path, None, threading.Event(), try_s, START_RETRIES)

    def answers(self, path: str, body: Any) -> bool:
        """Whether a request is answered at once, with whatever; a GET where ``body`` is None."""
        content = None if body is None else json.dumps(body).encode()
        try_s = min(self.silence_s * _LOOK, START_TIMEOUT_S)
        try:
            self._insist(path, content, threading.Event(), try_s, retries=0)
        except RequestRefusedError:
            return True
        except GaveUpError:
            return False
        return True

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
        return self._insist(path, json.dumps(body).encode(), gone, self.silence_s * _TRY, RETRIES)

    def _insist(self, path: str, content: bytes | None, gone: threading.Event, try_s: float, retries: int) -> Any:
        last_try = time.monotonic() + self.silence_s * _LAST_TRY
        for attempt in range(retries + 1):
            wait = None
            try:
                return self._once(path, content, try_s)
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
            left = last_try - time.monotonic()
            if attempt == retries or left <= 0 or gone.is_set():
                break
            pause = self.first_pause_s * 2**attempt * random.uniform(0.5, 1.0)
            gone.wait(min(pause if wait is None else wait * random.uniform(1.0, 1.1), left))
        raise GaveUpError(failure)

    def _once(self, path: str, content: bytes | None, try_s: float) -> Any:
        until = time.monotonic() + try_s
        request = urllib.request.Request(self.url + path, data=content, headers={"Content-Type": "application/json"})
        if self._key:
            # unredirected headers are not passed on, whatever handles the request
            request.add_unredirected_header("Authorization", f"Bearer {self._key}")
        with self._opener.open(request, timeout=try_s) as response:  # of each wait for bytes, not of all together
            return json.loads(_read(response, until))

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


def _read(response: Any, until: float) -> bytes:
    """What comes until the time is up; a server may keep a connection alive with a byte now and then."""
    content = b""
    while (part := response.read1(_PART_BYTES)) and len(content) < _ANSWER_BYTES:
        content += part
        if time.monotonic() > until:
            raise TimeoutError("the answer has not ended in time")
    return content


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
    return max(seconds, 0.0) if math.isfinite(seconds) else None
