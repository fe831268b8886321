"""Health: of this process, and of what it stands on."""

from runtime.api.blueprint import Blueprint
from runtime.api.guards import public
from runtime.api.schemas.infra import (
    HealthSchema,
    InfraHealthSchema,
)
from runtime.services import health

blp = Blueprint(
    "Infra",
    __name__,
    url_prefix="/api/v1",
    description="服务与其依赖的健康状态。",
)


@blp.get("/infra/health")
@public
@blp.response(200, InfraHealthSchema)
def get_infra_health() -> dict:
    """检查基础设施健康状态。

    同时真正询问 Redis 和数据库，各最多一秒，总是返回 200；每秒只询问一次，所有请求者
    得到同样的结果。没有配置 Redis 时 `mode` 为 `embedded`。
    """
    return health.check()


@blp.get("/health")
@public
@blp.response(200, HealthSchema)
def get_health() -> dict:
    """检查服务健康状态。

    不访问任何外部服务。
    """
    return {"status": "ok"}
