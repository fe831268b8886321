"""/health and /infra/health."""

import marshmallow as ma

from runtime.api.schemas.base import AnswerSchema
from runtime.api.schemas.fields import Word


class ServiceHealthSchema(AnswerSchema):
    example = {"status": "healthy", "latency_ms": 0.4}

    status = Word("healthy", "unhealthy", required=True)
    latency_ms = ma.fields.Float(required=True, metadata={"minimum": 0, "examples": [0.4]})
    mode = Word("embedded")


class ServicesHealthSchema(AnswerSchema):
    redis = ma.fields.Nested(ServiceHealthSchema, required=True)
    database = ma.fields.Nested(ServiceHealthSchema, required=True)


class InfraHealthSchema(AnswerSchema):
    status = Word("healthy", "unhealthy", required=True)
    services = ma.fields.Nested(ServicesHealthSchema, required=True)


class HealthSchema(AnswerSchema):
    status = Word("ok", required=True)
