"""/users: profiles."""

from ..errors import (
    InvalidAccessToken,
    InvalidParameters,
    NotAuthenticated,
    UsernameTaken,
    UserNotFound,
)
from ..models import User
from ..services import users
from .blueprint import Blueprint
from .guards import current_user, user_asked_for
from .schemas import ChangeUserSchema, UsernamePathSchema, UserSchema

blp = Blueprint("Users", __name__, url_prefix="/api/v1/users", description="用户资料。")


@blp.route("/me", methods=["GET"])
@blp.response(200, UserSchema)
@blp.fails(NotAuthenticated, InvalidAccessToken)
def get_me() -> User:
    """获取当前用户信息(需要认证)。"""
    return current_user()


@blp.route("/me", methods=["PATCH"])
@blp.arguments(ChangeUserSchema)
@blp.response(200, UserSchema)
@blp.fails(NotAuthenticated, InvalidAccessToken, InvalidParameters, UsernameTaken)
def change_me(body: dict) -> User:
    """更新当前用户信息(需要认证)。

    只修改出现的字段；null 清除 `avatar_url` 或 `bio`。用户名已被占用时为 422。
    """
    return users.change_profile(current_user(), body)


@blp.route("/<username>", methods=["GET"])
@blp.arguments(UsernamePathSchema, location="path")
@blp.response(200, UserSchema)
@blp.fails(NotAuthenticated, InvalidAccessToken, UserNotFound, InvalidParameters)
def get_user(path: dict, username: str) -> User:
    """按用户名查询用户(需要认证)。

    不区分大小写。
    """
    return user_asked_for()
