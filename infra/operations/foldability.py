"""Foldability: whether a running worker can fold what a command starts.

Without this check, a command from other code than that of the workers would start a build that nobody folds.
"""

from infra.projecting.running_code import RunningCode, read_running_code
from infra.read_models.versions import read_builders, read_versions
from infra.redis.connections import RedisClient
from projections.fingerprint import ProjectionCode
from projections.versions import Build
from readapi.ports.errors import NotFoldableError


def check_running(client: RedisClient, code: ProjectionCode) -> None:
    """Check that a running worker carries this code.

    Raises:
        NotFoldableError: No running worker carries it.
    """
    running = _read(client, code.read_model)
    if code not in running:
        raise NotFoldableError(f"{_describe(code)}, but {_describe_running(running)}. {_advice(code, running)}")


def has_running_worker(client: RedisClient, code: ProjectionCode) -> bool:
    """Return whether a worker that carries any version of the read model of this code runs."""
    return bool(_read(client, code.read_model))


def check_builder(client: RedisClient, code: ProjectionCode) -> None:
    """Check that this code builds an existing version, so that a process can fold it without a running worker.

    Raises:
        NotFoldableError: The version has no build, or other code has built it.
    """
    name, version, _ = code
    [builder] = read_builders(client, [code])
    is_built = version in {build.version for build in read_versions(client, [name])[name].maintained}
    if builder is None or not is_built:
        raise NotFoldableError(
            f"{_describe(code)}, but no build has this version and no worker is running. "
            "Start a worker of this code (`tickview project`): it begins the build by itself."
        )
    if builder != code:
        raise NotFoldableError(
            f"{_describe(code)}, but version {version} was built by code with the fingerprint {builder.fingerprint}. "
            "The projection has changed: raise its version, then start a worker of this code (`tickview project`)."
        )


def check_build(client: RedisClient, read_model: str, build: Build) -> None:
    """Check that a running worker can fold a build.

    Raises:
        NotFoldableError: No running worker can fold it.
    """
    running = _read(client, read_model)
    if build.version not in {code.version for code in running}:
        raise NotFoldableError(
            f"No running worker can fold build {build} of {read_model}: {_describe_running(running)}. "
            f"Start a worker that carries version {build.version} (`tickview project`), then try again."
        )


def _describe(code: ProjectionCode) -> str:
    """Describe code at the beginning of a sentence."""
    return f"This code has version {code.version} of {code.read_model} (fingerprint {code.fingerprint})"


def _read(client: RedisClient, read_model: str) -> RunningCode:
    return read_running_code(client, [read_model])[read_model]


def _describe_running(running: RunningCode) -> str:
    if not running:
        return "no worker is running"
    codes = [f"version {code.version} (fingerprint {code.fingerprint})" for code in sorted(running)]
    return f"the running workers carry {', '.join(codes)}"


def _advice(code: ProjectionCode, running: RunningCode) -> str:
    if code.version in {other.version for other in running}:
        return "The projection has changed: raise its version and deploy this code, or run the command from their code."
    return "Start a worker of this code (`tickview project`), or run the command from the code of a running worker."
