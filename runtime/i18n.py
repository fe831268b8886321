"""The language of an answer, and its sentences: Chinese and English side by side.

Those of a failure stand at its class in `runtime.errors`; mails have their own files.
"""

from collections.abc import Mapping

from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

from runtime.errors import FAILURES, REFUSALS, Failure, Refusal, Sentences, TooManyRequests

LANGUAGES = ("zh", "en")

# How a run failed: one for each code in runtime.agent.events.
RUN_ERRORS: Mapping[str, Sentences] = {
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
    "run_provider_misconfigured": (
        "模型服务配置有误，请联系管理员",
        "The model is not set up correctly. Please tell the people who run this service.",
    ),
    "run_request_filtered": (
        "模型的服务器拒绝回答这段内容",
        "The model's server refuses to answer this. Please put it differently.",
    ),
    "run_no_answer": ("模型没有给出回答", "The model gave no answer."),
    "run_answer_too_long": ("回答过长，已停止", "The answer became too long and was stopped."),
    "run_thought_too_long": (
        "模型思考过长，没来得及回答",
        "The model spent on thinking all that it may write, and had nothing left for an answer.",
    ),
    "run_answer_filtered": (
        "回答触发了模型的内容过滤，余下的部分没有给出",
        "The model's filter withheld the rest of the answer.",
    ),
    "run_answer_unfinished": (
        "模型没有把回答说完",
        "The model ended before its answer was whole.",
    ),
    "run_conversation_too_long": (
        "这个对话对模型来说太长了，请缩短消息或开始新的对话",
        "The conversation has become too long for the model. Please send less, or begin a new one.",
    ),
    "run_too_many_steps": ("步骤过多，已停止", "The run took too many steps and was stopped."),
    "run_out_of_time": ("用时过长，已停止", "The run took too long and was stopped."),
    "run_interrupted": ("回答因服务中断而停止", "The run was interrupted."),
    "run_stopped": ("已按要求停止", "Stopped, as was asked for."),
    "run_out_of_tokens": (
        "今天的用量已用完，请明天再试",
        "Today's allowance is used up. Please try again tomorrow.",
    ),
    "run_internal": ("服务器内部错误，请稍后再试", "Something went wrong on our side."),
}

# What is wrong with one parameter; its code may be a failure's too.
FAULTS: Mapping[str, Sentences] = {
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
    "only_text": (
        "目前只能发送文字，图片、文件等内容无法转交给模型",
        "Only text can be sent for now: images, files and the like cannot be passed on.",
    ),
    "not_a_string": ("应为字符串", "This must be a string."),
    "not_a_boolean": ("应为 true 或 false", "This must be true or false."),
    "not_an_event_id": ("应为事件的编号", "This must be an event's number."),
    "not_an_idempotency_key": (
        "应为 1 至 255 个可见的 ASCII 字符",
        "This must be 1 to 255 visible ASCII characters.",
    ),
    "not_a_list": ("应为数组", "This must be an array."),
    "too_many": ("最多 {} 项", "This may have at most {} items."),
    "too_many_values": ("请求内容过于复杂", "The body has too many objects and arrays."),
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
    "url_with_user": (
        "网址中不能有用户名或密码",
        "A URL may not have a username or password in it.",
    ),
    "not_a_host": ("网址中的域名或端口不正确", "The URL's domain or port is not valid."),
    "not_allowed_redirect": (
        "不允许跳转到该网址",
        "This URL is not one the service may lead to.",
    ),
    "own_name_in_redirect": (
        "网址中不能有名为 email、token 或 restoration 的参数",
        "This URL may have no parameter named email, token or restoration.",
    ),
}

SENTENCES: Mapping[str, Sentences] = {
    **FAULTS,
    **RUN_ERRORS,
    **{refusal.code: refusal.sentences for refusal in REFUSALS.values()},
    **{failure.code: failure.sentences for failure in FAILURES},
}

# Of an Accept-Language so much is read.
MAX_HEADER_CHARS = 500

_UNITS = ((1, "秒", "second"), (60, "分钟", "minute"), (3600, "小时", "hour"))


def accepted_in(header: str) -> LanguageAccept:
    """The languages of an Accept-Language, as far as people set them: to weigh 10,000 takes as long
    as hundreds of requests, on the server's loop if the request is refused there.
    """
    return parse_accept_header(header[:MAX_HEADER_CHARS], LanguageAccept)


def choose(accepted: LanguageAccept) -> str:
    """Chinese, unless Accept-Language prefers English (RFC 9110 §12.5.4)."""
    return _primary(accepted).best_match(LANGUAGES, default=LANGUAGES[0])


def choose_stated(accepted: LanguageAccept) -> str | None:
    """The same, or None when Accept-Language asks for neither, as a program's may not."""
    named = [(tag, quality) for tag, quality in accepted if tag != "*"]
    return _primary(LanguageAccept(named)).best_match(LANGUAGES)


def _primary(accepted: LanguageAccept) -> LanguageAccept:
    """Without regions: from `en-GB, zh;q=0.5` best_match() takes Chinese, which matches exactly."""
    return LanguageAccept([(tag.partition("-")[0], quality) for tag, quality in accepted])


def sentence(code: str, language: str, *values: object) -> str:
    """The sentence of this code in this language, its places filled.

    Raises KeyError when there is none: a sentence that is missing is a fault of the code.
    """
    return _in(language, SENTENCES[code]).format(*values)


def told(failure: Failure | type[Failure] | Refusal, language: str) -> str:
    """The sentence of a failure, with how long to wait if it is a limit that was reached."""
    if not isinstance(failure, TooManyRequests):
        return _in(language, failure.sentences)
    wait = duration(failure.seconds_to_wait, language)
    return _in(language, failure.sentences_with_wait).format(wait)


def _in(language: str, sentences: Sentences) -> str:
    return sentences[LANGUAGES.index(language)]


def duration(seconds: int, language: str) -> str:
    """So many seconds in words, rounded up to a minute above 59, to an hour above 59 minutes."""
    size, chinese, english = next((unit for unit in _UNITS if seconds <= 59 * unit[0]), _UNITS[-1])
    count = -(-seconds // size)
    if language == "zh":
        return f"{count} {chinese}"
    return f"{count} {english}" + ("" if count == 1 else "s")


def message(text: str, language: str) -> str:
    """The sentence for a fault's message: a code, then the values for its places."""
    code, *values = text.split()
    return sentence(code, language, *values)
