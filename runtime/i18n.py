"""Every sentence a person reads in an answer, Chinese and English side by side.

Mails have their own page, `runtime.letters`.
"""

from collections.abc import Mapping

from werkzeug.datastructures import LanguageAccept

LANGUAGES = ("zh", "en")

SENTENCES: Mapping[str, tuple[str, str]] = {
    # What went wrong: one for each code in runtime.errors.
    "invalid_parameters": ("请求参数无效", "The request's parameters are invalid."),
    "username_taken": ("用户名已被占用", "The username is taken."),
    "username_taken_meanwhile": (
        "用户名已被他人占用，请换一个用户名重新注册",
        "The username was taken meanwhile. Please sign up again with another one.",
    ),
    "not_authenticated": ("未认证", "You are not signed in."),
    "invalid_access_token": ("未认证", "Your sign-in has expired. Please sign in again."),
    "wrong_credentials": ("邮箱或密码错误", "The email or the password is wrong."),
    "wrong_password": ("当前密码错误", "The current password is wrong."),
    "common_password": (
        "密码太常见，请换一个更难猜的",
        "This password is among the first that are guessed. Please choose another one, such as a"
        " few words that have nothing to do with each other.",
    ),
    "own_name_as_password": (
        "密码不能是自己的用户名或邮箱",
        "The password may not be your own username or email address, nor that with digits or"
        " signs added.",
    ),
    "invalid_code": ("验证码无效或已过期", "The code is invalid or has expired."),
    "invalid_refresh_token": ("无效的 refresh token", "The refresh token is invalid."),
    "forbidden": ("无权限访问", "You have no access to this."),
    "session_not_found": ("会话不存在或已结束", "There is no such session, or it has ended."),
    "user_not_found": ("用户不存在", "There is no such user."),
    "chat_not_found": ("对话不存在", "There is no such chat."),
    "run_not_found": ("该次回答不存在", "There is no such run in this chat."),
    "idempotency_key_reused": (
        "该 Idempotency-Key 已用于另一个请求",
        "This Idempotency-Key was used with another request.",
    ),
    "nothing_new": ("没有新的消息", "There is no new message in it."),
    "chat_busy": (
        "上一条消息仍在处理中，请稍候",
        "The previous message is still being answered. Please wait.",
    ),
    "too_many_requests": ("请求过于频繁", "Too many requests. Please try again later."),
    "day_full": (
        "今天发送的内容已达上限，请明天再试",
        "You have written as much as you may in a day. Please go on tomorrow.",
    ),
    "too_many_chats": (
        "对话数量已达上限，请先删除不需要的对话",
        "You have as many chats as you may have. Please delete some first.",
    ),
    "overloaded": ("请求过于频繁", "The server is busy. Please try again in a moment."),
    "unavailable": (
        "服务暂时不可用，请稍后再试",
        "The service is unavailable for the moment. Please try again.",
    ),
    # How a run failed: one for each code in runtime.agent.events.
    "run_provider_unavailable": (
        "模型暂时无法连接，请稍后再试",
        "The model cannot be reached at the moment. Please try again.",
    ),
    "run_provider_busy": (
        "模型请求过多，请稍后再试",
        "The model has too many requests at the moment. Please try again.",
    ),
    "run_provider_timeout": ("模型长时间没有响应", "The model has been silent for too long."),
    "run_provider_interrupted": ("模型的回答中断了", "The model's answer broke off."),
    "run_provider_protocol": (
        "模型返回了无法识别的内容",
        "The model sent an answer that makes no sense.",
    ),
    "run_provider_rejected": ("模型拒绝了该请求", "The model refused the request."),
    "run_no_answer": ("模型没有给出回答", "The model gave no answer."),
    "run_answer_too_long": ("回答过长，已停止", "The answer became too long and was stopped."),
    "run_too_many_steps": ("步骤过多，已停止", "The run took too many steps and was stopped."),
    "run_out_of_time": ("用时过长，已停止", "The run took too long and was stopped."),
    "run_interrupted": ("回答因服务中断而停止", "The run was interrupted."),
    "run_stopped": ("已按要求停止", "Stopped, as was asked for."),
    "run_out_of_tokens": (
        "今天的用量已用完，请明天再试",
        "Today's allowance is used up. Please try again tomorrow.",
    ),
    "run_internal": ("服务器内部错误，请稍后再试", "Something went wrong on our side."),
    # What the framework refuses, by status.
    "http_400": ("请求格式错误", "The request is malformed."),
    "http_404": ("请求的地址不存在", "There is nothing at this address."),
    "http_405": ("不支持该请求方法", "This method is not allowed here."),
    "http_406": ("无法提供所要求的格式", "The requested format is not available."),
    "http_408": ("请求超时", "The request took too long to arrive."),
    "http_413": ("请求内容过大", "The request is too large."),
    "http_500": ("服务器内部错误，请稍后再试", "Something went wrong on our side."),
    # What is wrong with one parameter.
    "required": ("此项必填", "This is required."),
    "not_null": ("此项不能为 null", "This may not be null."),
    "unknown_field": ("未知字段", "This field is unknown."),
    "repeated_field": ("字段重复", "This field is given more than once."),
    "not_an_object": ("请求内容应为 JSON 对象", "The body must be a JSON object."),
    "not_json": ("请求内容不是有效的 JSON", "The body is not valid JSON."),
    "wrong_content_type": (
        "Content-Type 应为 application/json",
        "The Content-Type must be application/json.",
    ),
    "not_a_string": ("应为字符串", "This must be a string."),
    "not_an_event_id": ("应为事件的编号", "This must be an event's number."),
    "not_an_idempotency_key": (
        "应为 1 至 255 个可见的 ASCII 字符",
        "This must be 1 to 255 visible ASCII characters.",
    ),
    "not_a_list": ("应为数组", "This must be an array."),
    "not_a_tool_name": (
        "只能包含 1 至 64 个字母、数字、下划线和连字符",
        "This must be 1 to 64 letters, digits, underscores and hyphens.",
    ),
    "not_a_uuid": ("应为 UUID", "This must be a UUID."),
    "not_one_of": ("应为 {} 之一", "This must be one of {}."),
    "not_between": ("应为 {} 到 {} 的整数", "This must be a whole number from {} to {}."),
    "not_a_cursor": (
        "应为上一页返回的 next_cursor",
        "This must be the next_cursor of the page before.",
    ),
    "too_short": ("至少需要 {} 个字符", "This needs at least {} characters."),
    "too_long": ("最多 {} 个字符", "This may have at most {} characters."),
    "at_most_chats": ("最多可以有 {} 个对话", "You may have at most {} chats."),
    "not_an_email": ("邮箱格式不正确", "This is not an email address."),
    "own_email": ("账号用的就是这个邮箱", "This is your account's address already."),
    "not_a_username": (
        "只能包含字母、数字和下划线",
        "Only letters, digits and underscores are allowed.",
    ),
    "not_a_code": ("验证码应为 6 位数字", "The code has six digits."),
    "invalid_character": ("含有不支持的字符", "This has a character that is not supported."),
    "not_a_url": (
        "应为 http 或 https 开头的完整网址",
        "This must be an absolute http or https URL.",
    ),
    "not_allowed_redirect": (
        "不允许跳转到该网址",
        "This URL is not one the service may lead to.",
    ),
}


def choose(accepted: LanguageAccept) -> str:
    """Chinese, unless Accept-Language prefers English (RFC 9110 §12.5.4)."""
    # best_match() alone takes Chinese from `en-GB, zh;q=0.5`: it looks for exact matches first.
    primary = LanguageAccept([(tag.partition("-")[0], quality) for tag, quality in accepted])
    return primary.best_match(LANGUAGES, default=LANGUAGES[0])


def sentence(code: str, language: str, *values: object) -> str:
    """The sentence of this code in this language, its places filled.

    Raises KeyError when there is none: a sentence that is missing is a fault of the code.
    """
    return SENTENCES[code][LANGUAGES.index(language)].format(*values)


def message(text: str, language: str) -> str:
    """The sentence for a fault's message: a code, then the values for its places."""
    code, *values = text.split()
    return sentence(code, language, *values)
