"""Problem details (RFC 9457): the body of every answer that refuses."""

from runtime.api.schemas.base import AnswerSchema
from runtime.api.schemas.fields import Count, Objects, String, Word


class Code(String):
    """What happened, for programs; new ones may come one day."""

    def __init__(self, **kwargs):
        sentence = "固定不变的代码，供程序判断；将来可能增加。"
        super().__init__(pattern="[a-z0-9_]+", description=sentence, **kwargs)


class FaultSchema(AnswerSchema):
    """Where a parameter is, in the body or outside it, and what is wrong with it."""

    published_as = "InvalidParameter"

    example = {"pointer": "#/email", "code": "not_an_email", "detail": "邮箱格式不正确"}

    pointer = String(
        metadata={"format": "uri-reference"}, description="请求体中的位置 (RFC 6901 §6)"
    )
    parameter = String(description="查询或路径参数的名称")
    code = Code(required=True, example="not_an_email")
    detail = String(required=True, low=1)


class ProblemSchema(AnswerSchema):
    """RFC 9457, which replaced RFC 7807."""

    type = Word("about:blank", required=True)
    title = String(required=True, example="Unauthorized")
    status = Count(401, low=400, high=599)
    code = Code(required=True, example="not_authenticated")
    detail = String(required=True, low=1, example="未认证")
    instance = String(
        required=True, example="/api/v1/users/me", metadata={"format": "uri-reference"}
    )


class InvalidParametersSchema(ProblemSchema):
    published_as = "InvalidParametersProblem"

    example = {
        "type": "about:blank",
        "title": "Unprocessable Entity",
        "status": 422,
        "code": "invalid_parameters",
        "detail": "请求参数无效",
        "instance": "/api/v1/auth/sessions",
        "errors": [FaultSchema.example],
    }

    errors = Objects(FaultSchema, required=True, metadata={"minItems": 1})
