"""Requests that schemathesis makes of the OpenAPI document: no crash, and every answer as documented."""

import pytest
from conftest import KEY

schemathesis = pytest.importorskip("schemathesis")
hypothesis = pytest.importorskip("hypothesis")

from schemathesis.checks import not_a_server_error  # noqa: E402 # after the skip
from schemathesis.specs.openapi import checks  # noqa: E402 # after the skip

EVERY = list(hypothesis.HealthCheck)

# Left out: that what breaks the schema is refused. "true" for true and 5.0 for 5 are accepted, as clients send them.
PROMISED = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


def test_every_route_answers_as_documented(url):
    operations = [each.ok() for each in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations()]
    assert len(operations) > 25
    for operation in operations:

        @hypothesis.settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=EVERY)
        @hypothesis.given(case=operation.as_strategy())
        def ask(case):
            case.call_and_validate(headers={"authorization": f"Bearer {KEY}"}, checks=PROMISED)

        ask()
