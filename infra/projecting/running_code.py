"""Running code: the projections that running workers carry, as each worker announces them.

A command may come from other code than that of the workers, for example during a deploy. It therefore asks here what
the running workers can fold.
"""

from collections.abc import Iterable, Mapping, Sequence

from infra.read_models.keys import running_code_key
from infra.redis.connections import RedisClient
from infra.redis.functions import command, with_functions
from projections.fingerprint import ProjectionCode

RunningCode = Mapping[ProjectionCode, Sequence[str]]
"""Code of one read model -> names of the running workers that carry it."""


def announce_code(client: RedisClient, worker: str, codes: Sequence[ProjectionCode], seconds: float) -> None:
    """Announce for ``seconds`` that a worker carries these codes, in one round trip."""
    _register(client, worker, codes, seconds)


def withdraw_code(client: RedisClient, worker: str, codes: Sequence[ProjectionCode]) -> None:
    """Withdraw the announcement of a worker, in one round trip."""
    _register(client, worker, codes, 0)


def _register(client: RedisClient, worker: str, codes: Sequence[ProjectionCode], seconds: float) -> None:
    def register() -> None:
        with client.pipeline(transaction=False) as pipeline:
            for code in codes:
                member = f"{worker} {code.version} {code.fingerprint}"
                arguments = (member, round(seconds * 1_000))
                pipeline.execute_command(*command("register_worker", [running_code_key(code.read_model)], arguments))
            pipeline.execute()

    with_functions(client, register)


def read_running_code(client: RedisClient, read_models: Iterable[str]) -> dict[str, RunningCode]:
    """Read which code the running workers carry for each of these read models, in one round trip."""
    names = list(read_models)

    def read() -> list[list[bytes]]:
        with client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.execute_command(*command("running_members", [running_code_key(name)], (), read_only=True))
            return list(pipeline.execute())

    return {name: _parse(name, members) for name, members in zip(names, with_functions(client, read), strict=True)}


def _parse(read_model: str, members: Iterable[bytes]) -> RunningCode:
    running: dict[ProjectionCode, list[str]] = {}
    for member in members:
        worker, version, fingerprint = member.decode().rsplit(" ", 2)
        running.setdefault(ProjectionCode(read_model, int(version), fingerprint), []).append(worker)
    return running
