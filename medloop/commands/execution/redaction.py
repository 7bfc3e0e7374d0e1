"""Redaction of pages: secrets in settings and logs, and control codes of terminals.

Patients' names need no redaction: jobs write pseudonyms (medloop/imaging/identity.py), and a page lists no object.
"""

from __future__ import annotations

import re

HIDDEN = "(hidden)"
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+(?![a-z])")
_NAMES = ("key", "apikey", "secret", "token", "password", "credential")
_SECRET_WORDS = frozenset((*_NAMES, *(f"{name}s" for name in _NAMES), "passwd", "passphrase", "auth"))
_SECRET_VALUES = (
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),  # ids of AWS access keys
    re.compile(r"\b(?:gh[oprsu]|github_pat|glpat|hf|sk|xox[abp])[_-][A-Za-z0-9_-]{16,}"),
    re.compile(r"(?<=://)[^/\s@:]*:[^/\s@]+(?=@)"),  # https://user:password@host
    re.compile(r"(?<=[?&]X-Amz-Signature=)\w+|(?<=[?&]X-Amz-Security-Token=)[^&\s]+"),
    re.compile(r"(?i)(?<=authorization: )(?:bearer|basic) \S+"),
    re.compile(
        r"(?i)(?<![a-z])(?:[a-z0-9]+[_-])*(?:api[_-]?key|secret|token|password|access[_-]key)\b[\"']?\s*[=:]\s*"
        r"[\"']?(?!\s)[^\s\"',;]{8,}"
    ),
)
_CODES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def is_secret_name(name: str) -> bool:
    """True if a setting of this name may contain a secret: `WANDB_API_KEY`, `apiToken`; not `keypoints`."""
    return not _SECRET_WORDS.isdisjoint(word.lower() for word in _WORD.findall(name))


def redact_setting(name: str, value: str) -> str:
    """Return a setting's value, or a placeholder if its name or its form is that of a secret."""
    return HIDDEN if value and is_secret_name(name) else redact(value)


def redact(text: str) -> str:
    """Replace access keys, tokens, passwords in URLs and signatures in a text."""
    for pattern in _SECRET_VALUES:
        text = pattern.sub(HIDDEN, text)
    return text


def clean_text(text: str) -> str:
    """Return the lines of a log without colours, control characters, secrets, and text that was overwritten."""
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in _CODES.sub("", text).split("\n")]
    return redact(_CONTROLS.sub("", "\n".join(lines)))
