from __future__ import annotations

import pytest

from tornado_live import errors
from tornado_live.upstream.closing import (
    ClosingKind,
    ConnectionClosed,
    classify,
    kind_of,
    refused_upgrade,
    told,
)

RESUME = ClosingKind.RETRY_WITH_HANDLE
FRESH = ClosingKind.RETRY_FRESH
QUOTA = ClosingKind.QUOTA
FATAL = ClosingKind.FATAL


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (1000, "", RESUME),
        (1001, "", RESUME),
        (1006, "", RESUME),
        (1012, "", RESUME),
        (1007, "Request contains an invalid argument.", FRESH),
        (1007, "Thinking level is not supported for this model", FATAL),
        (1007, "Function response scheduling is not supported for this model", FATAL),
        (1007, "Invalid JSON payload received. Unknown name \"x\" at 'setup': Cannot find field.", FATAL),
        (1007, "API key not valid. Please pass a valid API key.", FATAL),
        (1007, "Requested voice api_name 'Alexa' is not available for model gemini-3.8-live", FATAL),
        (1007, "At most one response modality can be specified in the setup request.", FATAL),
        (
            1008,
            "models/x is not found for API version v1beta, or is not supported for bidiGenerateContent. Call",
            FATAL,
        ),
        (1008, "Operation is not implemented, or supported, or enabled.", RESUME),
        (1008, "BidiGenerateContent session not found", FRESH),
        (1008, "Requested entity was not found.", FRESH),
        (1008, "The operation was aborted.", RESUME),
        (1008, "something new", FRESH),
        (1009, "", FRESH),
        (1011, "Internal error occurred.", RESUME),
        (1011, "The service is currently unavailable.", RESUME),
        (1011, "Deadline expired before operation could complete.", RESUME),
        (1011, "keepalive ping timeout", RESUME),
        (1011, "You exceeded your current quota, please check your plan and billing details.", QUOTA),
        (1011, "RESOURCE_EXHAUSTED", QUOTA),
        (1008, "Resource has been exhausted (e.g. check quota).", QUOTA),
        (4321, "", RESUME),
    ],
)
def test_a_close_is_judged_by_code_and_reason(code: int, reason: str, kind: ClosingKind) -> None:
    assert classify(code, reason) is kind


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, '{"error": {"message": "API key not valid."}}', errors.UpstreamRefused),
        (401, "", errors.UpstreamRefused),
        (403, '{"error": {"status": "PERMISSION_DENIED"}}', errors.UpstreamRefused),
        (403, '{"error": {"status": "RESOURCE_EXHAUSTED"}}', errors.UpstreamQuota),
        (404, "", errors.UpstreamRefused),
        (429, "", errors.UpstreamQuota),
        (408, "", errors.UpstreamUnavailable),
        (500, "", errors.UpstreamUnavailable),
        (503, "", errors.UpstreamUnavailable),
        (302, "", errors.UpstreamRefused),
    ],
)
def test_a_refused_upgrade_is_judged_by_status_and_body(
    status: int, body: str, error: type[Exception]
) -> None:
    assert type(refused_upgrade(status, body)) is error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionClosed(1011, "quota"), QUOTA),
        (errors.UpstreamQuota(), QUOTA),
        (errors.UpstreamRefused(), FATAL),
        (errors.UpstreamTimeout(), RESUME),
        (errors.UpstreamUnavailable(), RESUME),
    ],
)
def test_every_upstream_error_has_a_kind(error: errors.UpstreamError, kind: ClosingKind) -> None:
    assert kind_of(error) is kind


@pytest.mark.parametrize(
    ("closed", "error"),
    [
        (ConnectionClosed(1006), errors.UpstreamUnavailable),
        (ConnectionClosed(1007, "secret words"), errors.UpstreamRefused),
        (ConnectionClosed(1008, "models/x is not found"), errors.UpstreamRefused),
        (ConnectionClosed(1011, "quota", retry_after_s=5.0), errors.UpstreamQuota),
    ],
)
def test_a_client_is_told_a_class_of_the_error_tree_and_none_of_geminis_words(
    closed: ConnectionClosed, error: type[errors.UpstreamError]
) -> None:
    answer = told(closed)
    assert type(answer) is error
    assert answer.retry_after_s == closed.retry_after_s
    assert closed.message == answer.message == error.default_message
