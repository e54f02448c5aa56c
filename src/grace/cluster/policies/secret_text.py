"""What looks like a secret in a text, and the text without it."""

import re

_SECRET_NAME = re.compile(
    r"TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIAL|API_?KEY|(?:^|_)KEY(?:$|_)", re.I
)
# These hold where a secret is, or what it is called.
_NO_SECRET_NAME = re.compile(
    r"(?:_FILE|_PATH|_DIR|_NAME|_ENV|_PREFIX|_LIMIT|_COUNT|_LENGTH|_SECONDS)$|"
    r"(?:MAX|NUM|NUMBER|MIN)_.*TOKENS|TOKENIZER|TOKENS_?PER|TOKENS$",
    re.I,
)
SECRET_VALUE = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{16,}|\bAKIA[A-Z0-9]{16}\b|"
    r"\bgh[pousr]_[A-Za-z0-9]{30,}|\bglpat-[A-Za-z0-9_-]{16,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|"
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\beyJ[\w-]{16,}\.[\w-]{16,}\.[\w-]{8,}"
)
SECRET_FLAG = re.compile(
    r"^--?(?:[a-z-]*-)?(?:api-key|token|password|secret)(?:=(.*))?$", re.I | re.S
)
_AFTER_FLAG = re.compile(
    r"(--?(?:[a-z-]*-)?(?:api-key|token|password|secret)(?:=|\s+))(?!\$\()(\S+)", re.IGNORECASE
)
HIDDEN = "(not shown)"


def is_secret_name(name: str) -> bool:
    """
    Whether a variable of that name is likely to hold a secret.

    >>> is_secret_name("HF_TOKEN"), is_secret_name("MAX_TOKENS"), is_secret_name("KEY_FILE")
    (True, False, False)
    """
    return bool(_SECRET_NAME.search(name)) and not _NO_SECRET_NAME.search(name)


def masked(text: str) -> str:
    """
    Return a text without what looks like a secret.

    >>> masked("serve --api-key abc --port 8000")
    'serve --api-key (not shown) --port 8000'
    """
    return _AFTER_FLAG.sub(rf"\1{HIDDEN}", SECRET_VALUE.sub(HIDDEN, text))
