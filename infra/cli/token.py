"""``tickview token``: create, list and revoke the tokens of the API."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.access.tokens import Token, create_token, read_tokens, revoke_token
from infra.cli.errors import CommandError
from infra.cli.journal import record_or_warn
from infra.cli.output import JsonOption, console, iso, print_json, print_table
from infra.settings import Settings
from readapi.http.identities import SCOPES, SUBJECT_RULE, Scope, is_subject

app = typer.Typer(
    help="Create, list and revoke tokens of the API in the file TICKVIEW_TOKENS_FILE.", no_args_is_help=True
)

_UNIT_SECONDS = {"m": 60, "h": 3_600, "d": 86_400}


@app.command()
def create(
    subject: Annotated[str, typer.Option(help="The user of the token, whose lists it reads and writes.")],
    scope: Annotated[
        list[str], typer.Option(help=f"A permission of the token: {', '.join(SCOPES)}. Repeat for several.")
    ],
    expires: Annotated[
        str | None, typer.Option(help="Lifetime, for example 90d, 12h or 30m. Default: unlimited.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Create a token and print it. It cannot be printed again, because only its hash is stored.

    Example: TICKVIEW_TOKENS_FILE=tokens.json tickview token create --subject anna --scope read --expires 90d
    """
    if not is_subject(subject):
        raise CommandError(f"--subject {SUBJECT_RULE}")
    settings = Settings()
    text, token = create_token(_tokens_file(settings), subject, _parse_scopes(scope), _parse_lifetime(expires))
    details = {"subject": subject, "scopes": list(token.scopes), "expires_at": token.expires_at}
    record_or_warn(settings, "create-token", token.id, details)
    if json:
        print_json({"token": text, **_document(token)})
    else:
        console.print(text, markup=False, highlight=False, soft_wrap=True)


@app.command(name="list")
def list_tokens(json: JsonOption = False) -> None:
    """List the tokens that are not revoked, without their secret text.

    Example: TICKVIEW_TOKENS_FILE=tokens.json tickview token list --json
    """
    tokens = [_document(token) for token in read_tokens(_tokens_file(Settings())).values()]
    if json:
        print_json({"tokens": tokens})
        return
    for token in tokens:
        token["scopes"] = " ".join(token["scopes"])
    print_table(("id", "subject", "scopes", "created_at", "expires_at", "has_ended"), tokens, "no tokens")


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(help="Id of the token. It is also part of the token: tickview_<id>_…")],
    json: JsonOption = False,
) -> None:
    """Revoke a token. The API refuses it within two seconds.

    Example: TICKVIEW_TOKENS_FILE=tokens.json tickview token revoke 5f0c7a1b2c3d
    """
    settings = Settings()
    token = revoke_token(_tokens_file(settings), token_id)
    record_or_warn(settings, "revoke-token", token_id, {"subject": token.subject})
    if json:
        print_json({"revoked": _document(token)})
    else:
        console.print(f"token {token_id} of {token.subject} is revoked", markup=False, highlight=False)


def _tokens_file(settings: Settings) -> Path:
    path = settings.tokens_file
    if path is None:
        raise CommandError(
            "There is no file for tokens. Set TICKVIEW_TOKENS_FILE to its path, for this command and for the API."
        )
    return path


def _parse_scopes(names: list[str]) -> list[Scope]:
    scopes: list[Scope] = [scope for name in names for scope in SCOPES if scope == name]
    if len(scopes) != len(names):
        unknown = next(name for name in names if name not in SCOPES)
        raise CommandError(f"--scope {unknown} is not a scope. The scopes are {', '.join(SCOPES)}.")
    return scopes


def _parse_lifetime(expires: str | None) -> float | None:
    if expires is None:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", expires)
    if match is None:
        raise CommandError(f"--expires {expires} is not a lifetime. Write for example 90d, 12h or 30m.")
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def _document(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "subject": token.subject,
        "scopes": list(token.scopes),
        "created_at": iso(token.created_at),
        "expires_at": None if token.expires_at is None else iso(token.expires_at),
        "has_ended": token.has_expired,
    }
