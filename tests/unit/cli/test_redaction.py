"""What a page that is sent around hides, and what it leaves alone."""

from __future__ import annotations

import pytest

from medloop.commands.execution.redaction import HIDDEN, clean_text, redact_setting


@pytest.mark.parametrize(
    "name", ["WANDB_API_KEY", "apiToken", "db.password", "SECRET", "hf-token", "aws_secret_access_key", "Credentials"]
)
def test_a_setting_with_a_secret_name_is_hidden(name: str) -> None:
    """However its words are joined."""
    assert redact_setting(name, "value") == HIDDEN


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_keypoints", "4"),
        ("monkey", "x"),
        ("WANDB_API_KEY", ""),
        ("MEDLOOP_CODE_DIGEST", "e52eef1cea3b0572b6ad9556f89b61944cfdd72d"),
        ("data", "s3://bucket/keys/pseudonyms.key"),
        ("uri", "https://host:8443/x?a=b"),
    ],
)
def test_what_is_no_secret_is_shown(name: str, value: str) -> None:
    """A digest, an address, an empty value, a word that only contains another."""
    assert redact_setting(name, value) == value


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("id ASIAABCDEFGHIJKLMNOP.", f"id {HIDDEN}."),
        ("push to https://me:pa55@host/x", f"push to https://{HIDDEN}@host/x"),
        ("token ghp_abcdefghijklmnopqrst", f"token {HIDDEN}"),
        ("Authorization: Bearer abc.def", f"Authorization: {HIDDEN}"),
        ('{"wandb_api_key": "abcdefghij"}', f'{{"{HIDDEN}"}}'),
        ("s3?X-Amz-Signature=abc123&x=1", f"s3?X-Amz-Signature={HIDDEN}&x=1"),
        ("\x1b[1;31mred\x1b[0m\x1b]0;title\x07 text", "red text"),
        ("10%\r100%\r", "100%"),
        ("first\r\nsecond\r\n", "first\nsecond\n"),
        ("a\x00b\u202ec\ttab", "abc\ttab"),
        ("epoch=1; train_loss=0.5; learning_rate=0.001;", "epoch=1; train_loss=0.5; learning_rate=0.001;"),
    ],
)
def test_a_line_is_shown_without_secrets_and_control_codes(line: str, left: str) -> None:
    """As a reader on a terminal would see it, except for what must not be seen."""
    assert clean_text(line) == left
