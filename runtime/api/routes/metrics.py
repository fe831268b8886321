"""/metrics: what the service has counted, for Prometheus. No part of the API and its document."""

import hmac

from flask import Flask, Response, current_app

from runtime import metrics
from runtime.api.guards import bearer_token
from runtime.errors import InvalidAccessToken


def init_app(app: Flask) -> None:
    """Without METRICS_TOKEN the path is one of many that are not there."""
    if app.config["METRICS_TOKEN"]:
        app.add_url_rule("/metrics", "metrics", _get_metrics)


def _get_metrics() -> Response:
    """Raises NotAuthenticated without a token, InvalidAccessToken with a wrong one."""
    wanted = current_app.config["METRICS_TOKEN"]
    if not hmac.compare_digest(bearer_token().encode(), wanted.encode()):
        raise InvalidAccessToken
    return Response(metrics.text(), content_type=metrics.CONTENT_TYPE)
