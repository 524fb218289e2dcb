"""A FastAPI route that gives its page a token: who is signed in may watch the own projects.

Beside a gateway with the same secret, in a second terminal:

    export GATEWAY_JWT_SECRET=$(openssl rand -hex 32)
    GATEWAY_AUTH=jwt progress-gateway serve
    uvicorn examples.tokens.fastapi_tokens:app --port 8000

and in the page: `getToken: () => fetch("/progress-token", { method: "POST" }).then((answer) => answer.text())`.
"""

from typing import Annotated

from fastapi import Cookie, FastAPI, HTTPException, Response

from publisher.tokens import mint

app = FastAPI()

# Stands for your sessions and your database.
SESSIONS = {"session-of-ann": "ann"}
PROJECTS = {"ann": ["film_7", "team_3.*"]}


@app.post("/progress-token")
def progress_token(session: Annotated[str | None, Cookie()] = None) -> Response:
    user = SESSIONS.get(session or "")
    if user is None:
        raise HTTPException(401, "Sign in first.")
    token = mint(PROJECTS[user], sub=user, seconds=3600)
    return Response(token, media_type="text/plain", headers={"Cache-Control": "no-store"})
