"""What stands around the routes in the route document, in each language."""

HEADS = {
    "zh": """\
# Runtime API Routes

本文档记录所有 HTTP API 端点。修改路由时必须同步更新此文档：它由 `flask routes-document` 写成，
与实际路由不一致时测试失败。[英文版](ROUTES.en.md)。

## 格式说明

- Request/Response 使用 JSON 格式，UTF-8；未列出的字段一律拒绝，AG-UI 与 AI SDK 的请求除外
- 错误响应使用 RFC 9457（取代 RFC 7807）`application/problem+json`
- 所有端点前缀: `{prefix}`
- `?` 表示可省略，响应中表示可为 null；时间为 UTC 的 ISO 8601，以 `Z` 结尾
- 「需要认证」的端点须带 `Authorization: Bearer <access_token>`
- 除各端点列出的错误外，任何端点都可能返回：{common}
""",
    "en": """\
# Runtime API Routes

This document has every HTTP API endpoint. `flask routes-document` writes it, and a test fails when
it differs from the routes. [In Chinese](ROUTES.md).

## Format

- Requests and responses are JSON in UTF-8; fields that are not listed are refused, except in
  requests of AG-UI and the AI SDK
- Error responses are `application/problem+json` of RFC 9457 (which replaced RFC 7807)
- All endpoints begin with `{prefix}`
- `?` is what may be left out, or null in a response; times are ISO 8601 in UTC, ending in `Z`
- Endpoints that need authentication take `Authorization: Bearer <access_token>`
- Besides the errors listed at an endpoint, any endpoint may answer: {common}
""",
}

TAILS = {
    "zh": """\
## Error Response Format (RFC 9457)

所有错误响应使用 `application/problem+json` 格式:

```json
{{ "type": "about:blank", "title": "Unauthorized", "status": 401, "code": "invalid_code", \
"detail": "验证码无效或已过期", "instance": "/api/v1/auth/verifications/verify" }}
```

422 另有 `errors`，逐项指出问题所在：请求体为 `pointer`（RFC 6901），查询与路径参数为 `parameter`:

```json
{{ "errors": [ {{ "pointer": "#/email", "code": "not_an_email", "detail": "邮箱格式不正确" }} ] }}
```

401 带 `WWW-Authenticate`，429 与 503 带 `Retry-After`（秒），每个响应都带 `X-Request-ID`。
`detail` 默认为中文，`Accept-Language` 偏好英文时为英文；429 的 `detail` 还会说明需要等待多久。
前端应优先读取 `detail` 字段显示给用户，程序则应根据 `code` 判断：它固定不变，将来可能增加新的代码。

| `code` | 状态 | 含义 |
| --- | --- | --- |
{codes}

`errors` 各项的 `code`，除上表中状态为 422 的之外还有下列这些，`{{}}` 处为具体的值:

| `code` | 含义 |
| --- | --- |
{faults}

AG-UI 的 `RUN_ERROR` 事件也带 `code`，即运行失败的原因，与 `error`、`message` 中的句子对应:

| `code` | 含义 |
| --- | --- |
{run_errors}
""",
    "en": """\
## Error Response Format (RFC 9457)

All errors are `application/problem+json`:

```json
{{ "type": "about:blank", "title": "Unauthorized", "status": 401, "code": "invalid_code", \
"detail": "The code is invalid or has expired.", "instance": "/api/v1/auth/verifications/verify" }}
```

A 422 also has `errors`, which names what is wrong: a `pointer` (RFC 6901) into the body, or the
`parameter` of the query or path:

```json
{{ "errors": [ {{ "pointer": "#/email", "code": "not_an_email", \
"detail": "This is not an email address." }} ] }}
```

401 carries `WWW-Authenticate`, 429 and 503 `Retry-After` (seconds), every answer `X-Request-ID`.
`detail` is Chinese, or English if `Accept-Language` prefers it; that of a 429 also says how long to
wait. Show `detail` to the user. Programs go by `code`: none is ever renamed, and there may be new
ones.

| `code` | Status | Meaning |
| --- | --- | --- |
{codes}

A `code` in `errors` is one of those with status 422 above, or one of these, with a value at `{{}}`:

| `code` | Meaning |
| --- | --- |
{faults}

AG-UI's `RUN_ERROR` events have a `code` too, why the run failed, as `error` and `message` say it:

| `code` | Meaning |
| --- | --- |
{run_errors}
""",
}
