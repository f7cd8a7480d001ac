"""Answers by a server that speaks the chat completions of OpenAI: a local one, or a service.

Used only where its address is given; notes and queries then leave this machine. A key is taken from
the caller, never from a file, and is part of no message.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Sequence

from models.answers.prompt import Question

TIMEOUT_S = 120.0
MOST_NEW_TOKENS = 512


class EndpointError(Exception):
    """The server cannot be reached, refuses, or answers something else; says which and why."""


class Endpoint:
    """A model behind ``<address>/chat/completions``, asked one question after the other."""

    batch_size = 1

    def __init__(self, address: str, model: str, key: str | None) -> None:
        self.name = f"{model} at {address}"
        self.identity = f"endpoint-1 {address} {model}"
        self._url = f"{address.rstrip('/')}/chat/completions"
        self._model = model
        self._key = key

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """An answer to each question. Raises EndpointError."""
        return [self._ask(question) for question in questions]

    def _ask(self, question: Question) -> str:
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": question.prompt()}],
            "temperature": 0,
            "max_tokens": MOST_NEW_TOKENS,
        }
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self._url, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                found = json.load(response)
            return str(found["choices"][0]["message"]["content"]).strip()
        except urllib.error.HTTPError as error:
            raise EndpointError(
                f"{self._url} refuses with status {error.code} ({error.reason}); check the model "
                f"{self._model!r} and the key"
            ) from error
        except (OSError, TimeoutError) as error:
            raise EndpointError(f"{self._url} cannot be reached: {error}") from error
        except (ValueError, LookupError, TypeError) as error:
            raise EndpointError(
                f"{self._url} does not answer as chat completions do: {error!r}"
            ) from error
