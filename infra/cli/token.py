"""``tickview token``: who may ask the API what."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.access.tokens import Token, create_token, read_tokens, revoke_token
from infra.cli.output import JsonOption, console, iso, print_json, print_table
from infra.processes.errors import StartupError
from infra.settings import Settings
from readapi.http.identities import SCOPES, SUBJECT_RULE, Scope, is_subject

app = typer.Typer(help="Tokens of the API, in the file TICKVIEW_TOKENS_FILE.", no_args_is_help=True)

_SECONDS = {"m": 60, "h": 3_600, "d": 86_400}


@app.command()
def create(
    subject: Annotated[str, typer.Option(help="Whose it is: the user whose lists it reads and writes.")],
    scope: Annotated[list[str], typer.Option(help=f"What it may: {', '.join(SCOPES)}. Repeat for several.")],
    expires: Annotated[str | None, typer.Option(help="Lasts so long: 90d, 12h, 30m; for ever if not given.")] = None,
    json: JsonOption = False,
) -> None:
    """Make a token. It is printed this once: only a hash of it is kept.

    Example: tickview token create --subject anna --scope read --scope write --expires 90d
    """
    if not is_subject(subject):
        raise StartupError(f"--subject {SUBJECT_RULE}")
    text, token = create_token(_file(), subject, _scopes(scope), _seconds(expires))
    if json:
        print_json({"token": text, **_shown(token)})
    else:
        console.print(text, markup=False, highlight=False, soft_wrap=True)


@app.command(name="list")
def list_tokens(json: JsonOption = False) -> None:
    """The tokens that have not been revoked; never the tokens themselves.

    Example: tickview token list --json
    """
    tokens = [_shown(token) for token in read_tokens(_file()).values()]
    if json:
        print_json({"tokens": tokens})
        return
    for token in tokens:
        token["scopes"] = " ".join(token["scopes"])
    print_table(("id", "subject", "scopes", "created_at", "expires_at", "has_ended"), tokens, "no tokens")


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(help="Its id, which also stands in the token: tickview_<id>_…")],
    json: JsonOption = False,
) -> None:
    """Make a token worthless: the API learns of it within a second or two.

    Example: tickview token revoke 5f0c7a1b2c3d
    """
    token = revoke_token(_file(), token_id)
    if json:
        print_json({"revoked": _shown(token)})
    else:
        console.print(f"the token {token_id} of {token.subject} is revoked", markup=False, highlight=False)


def _file() -> Path:
    path = Settings().tokens_file
    if path is None:
        raise StartupError("set TICKVIEW_TOKENS_FILE to the file that shall keep the tokens; the API needs it too")
    return path


def _scopes(names: list[str]) -> list[Scope]:
    found: list[Scope] = [known for name in names for known in SCOPES if known == name]
    if len(found) != len(names):
        unknown = next(name for name in names if name not in SCOPES)
        raise StartupError(f"--scope {unknown} is none; there are {', '.join(SCOPES)}")
    return found


def _seconds(expires: str | None) -> float | None:
    if expires is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", expires)
    if found is None:
        raise StartupError("--expires should be like 90d, 12h or 30m")
    return int(found[1]) * _SECONDS[found[2]]


def _shown(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "subject": token.subject,
        "scopes": list(token.scopes),
        "created_at": iso(token.created_at),
        "expires_at": None if token.expires_at is None else iso(token.expires_at),
        "has_ended": token.has_expired,
    }
